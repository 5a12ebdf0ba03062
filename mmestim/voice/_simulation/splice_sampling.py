"""Simulator of clips with several splices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..edits import EDITS
from ..edits.base import AudioPool
from ..records import EditPlan
from ..taxonomy import SPLICED_LABELS
from .plan_sampling import resolve_ranges
from .simulator import EditSimulator

_N_SEAMS = (2, 4)


class SpliceSimulator(EditSimulator):
    """Makes clips with several seams each, for networks that learn to see them."""

    def _draw(self, rng: np.random.Generator, duration: float, pool: AudioPool) -> EditPlan:
        ranges, steps, length = resolve_ranges(self.edits), [], duration
        for _ in range(int(rng.integers(*_N_SEAMS, endpoint=True))):
            possible = [label for label in SPLICED_LABELS if label in ranges]
            possible = [label for label in possible if EDITS[label].can_draw(length, ranges[label], pool)]
            if not possible:
                break
            label = possible[int(rng.integers(len(possible)))]
            parameters = EDITS[label].draw(rng, length, self.sample_rate, ranges[label], pool)
            length = EDITS[label].duration_after(length, **parameters)
            steps.append({"edit": label, **parameters})
        others = {label: own for label, own in ranges.items() if label not in SPLICED_LABELS}
        if not others:
            plan = EditSimulator(n_edits=0, sample_rate=self.sample_rate)._draw(rng, length, pool)
        else:
            plan = EditSimulator(others, n_edits=self.n_edits, sample_rate=self.sample_rate)._draw(rng, length, pool)
        return replace(plan, duration=duration, steps=steps + plan.steps)
