"""Tables of the papers, with their published figures, and the estimators of papers.py that stand for their rows.

Figures are accuracy and F1 in %, transcribed from the tables; nothing here was measured by us.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, tuple[float, float | None]]  # by data set; the F1 may be unpublished
DATA_SETS = ("crema-d", "kinetics-sounds", "ucf101")  # the order of the figures of UDI's tables


@dataclass(frozen=True)
class Row:
    """Row of a table."""

    method: str
    estimator: str | None = None  # of papers.py; None: this package has no such method
    modality: int | None = None  # the branch of this modality instead of the fused output
    published: Figures = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Table of a paper."""

    title: str
    note: str
    rows: tuple[Row, ...]


def paper_row(method: str, estimator: str | None, *figures: tuple[float, float | None] | None, **more: Any) -> Row:
    """Return a row with figures in the order of `DATA_SETS`."""
    published = {name: pair for name, pair in zip(DATA_SETS, figures, strict=True) if pair is not None}
    return Row(method, estimator, published=published, **more)


UDI_FIGURES = (82.80, 83.19), (74.68, 73.86), (86.33, 85.97)
DECOUPLED_FIGURES = (78.90, 79.25), (73.25, 72.46), (85.96, 85.63)
SUM_FIGURES = (66.40, 66.82), (65.57, 64.58), (81.79, 81.31)

TABLES = (
    Table(
        "UDI, table 1: methods",
        "The published rows between Sum and UDI equal those of BalanceBenchmark, so they are probably not runs of this "
        "protocol. The exception is MMPareto on Kinetics-Sounds, for which BalanceBenchmark has 74.55.",
        (
            paper_row("first modality alone", "decoupled", (63.17, 63.59), (54.54, 53.7), (78.35, 77.55), modality=0),
            paper_row("second modality alone", "decoupled", (68.68, 68.61), (55.82, 54.62), (70.08, 69.76), modality=1),
            paper_row("Sum", "sum", *SUM_FIGURES),
            paper_row("CML", None, (69.18, 69.57), (67.56, 67.22), (84.74, 84.28)),
            paper_row("GBlending", "GradientBlending", (71.59, 71.72), (68.82, 66.43), (85.01, 84.50)),
            paper_row("MMPareto", "MMPareto", (79.97, 80.57), (70.13, 70.18), (85.30, 84.89)),
            paper_row("LFM", "LFM", (70.02, 69.55), (66.37, 66.02), (84.95, 84.35)),
            paper_row("OGM", "OGM", (67.76, 68.02), (67.04, 66.95), (82.07, 81.30)),
            paper_row("AGM", "AGM", (71.59, 72.11), (66.62, 65.88), (81.70, 80.89)),
            paper_row("PMR", "PMR", (67.19, 67.20), (67.11, 66.87), (81.93, 81.48)),
            paper_row("Relearning", "Relearning", (71.02, 71.46), (65.92, 65.48), (82.87, 82.15)),
            paper_row("ReconBoost", "ReconBoost", (74.01, 74.52), (68.38, 67.68), (82.89, 82.26)),
            paper_row("MLA", "MLA", (72.30, 72.66), (69.05, 68.75), (85.38, 84.84)),
            paper_row("OPM", "OPM", (68.75, 69.00), (66.89, 66.44), (85.28, 83.79)),
            paper_row("Greedy", None, (66.48, 66.54), (66.82, 66.53), None),
            paper_row("Modality-valuation", "Valuation", (75.85, 76.68), (68.01, 68.03), (85.25, 84.69)),
            paper_row("UDI", "udi", *UDI_FIGURES),
        ),
    ),
    Table(
        "Methods that UDI's table 1 leaves out",
        "Accuracy is published in BalanceBenchmark, with another protocol. The others have no published figure.",
        (
            Row("Sum with a loss of each modality", "sum+unimodal"),
            paper_row("AMCo", "AMCo", (73.30, None), (70.54, None), (86.91, 86.66)),
            paper_row("MBSD", "MBSD", (74.86, None), (68.82, None), (84.61, None)),
            paper_row("MMCosine", "MMCosine", (67.19, None), (67.49, None), (82.97, None)),
            paper_row("UMT", "UMT", (67.47, None), (68.60, None), (84.18, None)),
        ),
    ),
    Table(
        "UDI, table 2: decoupled optimisation (DO) and dynamic controller (DC)",
        "This package has no controller for joint training.",
        (
            paper_row("neither", "sum", *SUM_FIGURES),
            paper_row("DC", None, (75.27, 75.26), (68.42, 67.36), (83.74, 83.29)),
            paper_row("DO", "decoupled", *DECOUPLED_FIGURES),
            paper_row("DO and DC", "udi", *UDI_FIGURES),
        ),
    ),
    Table(
        "UDI, table 3: weights of consistency and complementarity",
        "",
        (
            paper_row("0, 1", "udi-0-1", (81.59, 81.97), (73.71, 72.68), (85.83, 85.47)),
            paper_row("1, 0", "udi-1-0", (82.39, 82.75), (74.49, 73.6), (86.23, 85.8)),
            paper_row("0, 0", "decoupled", *DECOUPLED_FIGURES),
            paper_row("adaptive", "udi", *UDI_FIGURES),
        ),
    ),
    Table(
        "UDI, table 4: anchor",
        "",
        (
            paper_row("first modality", "udi-anchor-1", (81.18, 81.51), (74.68, 73.86), (86.33, 85.97)),
            paper_row("second modality", "udi-anchor-2", (82.80, 83.19), (72.17, 71.26), (86.25, 85.80)),
        ),
    ),
    Table(
        "Modality gap",
        "Published accuracy is that of the abstracts; later versions state 70.40 on AVE. The paper's losses and "
        "settings could not be read. Ours are a reconstruction, except for the mixture, its posterior and the aims.",
        (
            Row(
                "gap",
                "gap",
                published={"crema-d": (80.65, None), "kinetics-sounds": (72.42, None), "ave": (70.90, None)},
            ),
            Row("gap without fine-tuning", "gap-not-fine-tuned"),
        ),
    ),
    Table(
        "Defaults of mmestim",
        "The same encoders and inputs, with the package's own optimizer, folds and fusion.",
        (
            Row("JointClassifier()", "default-joint"),
            Row("LateFusionClassifier()", "default-late"),
            Row("UDIClassifier()", "default-udi"),
            Row("ModalityGapClassifier()", "default-gap"),
        ),
    ),
)
# All estimators of the tables, each once.
ESTIMATORS = list(dict.fromkeys(row.estimator for table in TABLES for row in table.rows if row.estimator))
