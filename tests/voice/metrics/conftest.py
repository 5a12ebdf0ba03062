"""Fixtures that tests of several metrics share."""

import numpy as np
import pytest

from mmestim.voice.localization import EditSegment


@pytest.fixture(scope="session")
def random_clips():
    """Return a function of a seed that makes references and predictions of clips, which often match."""

    def make(seed, n_clips=6):
        rng = np.random.default_rng(seed)
        references, predictions = [], []
        for _ in range(n_clips):
            starts = rng.uniform(0, 8, size=rng.integers(0, 4))
            reference = [EditSegment.from_label("mix", start, start + rng.uniform(0.5, 3)) for start in starts]
            predicted = [
                EditSegment.from_label(
                    "mix", max(0, s.start + rng.normal(0, 0.4)), s.end + abs(rng.normal(0, 0.4)), rng.uniform()
                )
                for s in reference + reference[: rng.integers(0, 3)]
            ]
            false_alarm = EditSegment.from_label("mix", 9, 10, rng.uniform())
            references.append(reference)
            predictions.append(predicted + [false_alarm] * int(rng.integers(0, 2)))
        return references, predictions

    return make
