"""Sampler of plans with several splices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..edits import EDITS
from ..edits.base import AudioPool
from ..records import EditPlan
from ..taxonomy import SPLICED_LABELS
from .plan_sampling import PlanSampler, Ranges, resolve_ranges, sample_step

_N_SPLICED_EDITS = (2, 4)


@dataclass(frozen=True)
class SplicePlanSampler:  # numpydoc ignore=PR02
    """Sampler of plans with several spliced edits each, for networks that learn to detect splice points.

    Parameters
    ----------
    ranges : dict of str to dict of str to range
        Labels to choose from, each with the ranges of its parameters.
    sample_rate : int
        Rate of the clips in Hz.
    n_edits : (int, int), default=(0, 1)
        Minimum and maximum number of other edits, which follow the spliced ones.
    acquires : bool, default=True
        Whether plans vary how clips were recorded and stored.
    """

    ranges: Ranges
    sample_rate: int
    n_edits: tuple[int, int] = (0, 1)
    acquires: bool = True

    def sample(self, rng: np.random.Generator, duration: float, pool: AudioPool) -> EditPlan:
        """Sample spliced edits, then a plan of the others; see `PlanSampler.sample`."""
        steps: list[dict[str, Any]] = []
        length = duration
        for _ in range(int(rng.integers(*_N_SPLICED_EDITS, endpoint=True))):
            spliced = [label for label in SPLICED_LABELS if label in self.ranges]
            candidates = [label for label in spliced if EDITS[label].can_draw(length, self.ranges[label], pool)]
            if not candidates:
                break
            label = candidates[int(rng.integers(len(candidates)))]
            step, length = sample_step(rng, label, length, self.sample_rate, self.ranges[label], pool)
            steps.append(step)
        plan = self._other_edits().sample(rng, length, pool)
        return replace(plan, duration=duration, steps=steps + plan.steps)

    def _other_edits(self) -> PlanSampler:
        """Return the sampler of the edits that are not spliced."""
        ranges = {label: values for label, values in self.ranges.items() if label not in SPLICED_LABELS}
        if ranges:
            return PlanSampler(ranges, self.n_edits, "canonical", self.sample_rate, self.acquires)
        return PlanSampler(resolve_ranges("all"), (0, 0), "canonical", self.sample_rate, self.acquires)
