"""Conclusion of balance.py: the least used modality of each data set, in one sentence."""

from __future__ import annotations

from typing import Any

from _estimators import BASELINE, LATE
from _results import ACCURACY, Runs, grouped, interval, is_positive, mean, modalities_of, paired_differences


def conclusion(results: list[dict[str, Any]], udi: str | None) -> str:
    """Compare, on each data set, the least used modality in the joint network, in `udi` and trained alone."""
    return "".join(
        f"{data_set}: {verdict(estimators, udi)}\n"
        for data_set, estimators in grouped(results).items()
        if set(estimators.get(BASELINE, ())) & set(estimators.get(LATE, ()))
    )


def verdict(estimators: dict[str, Runs], udi: str | None) -> str:
    joint, alone = estimators[BASELINE], estimators[LATE]
    # Compare by the probe, which favours the joint network: its head was not trained on single modalities.
    gaps = {m: interval(paired_differences(alone, joint, "probe", m)) for m in modalities_of(estimators)}
    worst = max(gaps, key=lambda m: gaps[m][0])
    is_wasted = is_positive(*gaps[worst])

    def accuracies(runs: Runs) -> str:
        return f"{mean(runs, 'alone', worst):.1f} % (probe {mean(runs, 'probe', worst):.1f} %)"

    finding = "wastes" if is_wasted else "wastes no modality significantly; the largest gap is that of"
    text = (
        f"the joint network {finding} {worst}. From {worst} alone it reaches {accuracies(joint)}; a network trained on "
        f"{worst} alone reaches {accuracies(alone)}."
    )
    if not set(estimators.get(udi or "", ())) & set(joint):
        return text
    guided = estimators[udi]
    if is_wasted:
        is_better = is_positive(*interval(paired_differences(guided, joint, "probe", worst)))
        claim = "does not waste it:" if is_better else "is not significantly better:"
        text += f" {udi} {claim} {accuracies(guided)}."
    differences = paired_differences(guided, joint, "accuracy")
    fused = interval(differences)
    is_significant = is_positive(*fused) or is_positive(-fused[0], fused[1])
    return (
        f"{text} With all modalities, {udi} reaches {mean(guided, 'accuracy'):.1f} % and the joint network "
        f"{mean(joint, 'accuracy'):.1f} %: {ACCURACY.cell(differences, '+')} points"
        f"{'.' if is_significant else ', which is not significant.'}"
    )
