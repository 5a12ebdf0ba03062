"""Three candidate settings of each balancing method, for the choice on validation rows; the default comes first."""

from __future__ import annotations

from typing import Any

GRIDS: dict[str, list[dict[str, Any]]] = {
    "joint-concat+unimodal": [{"unimodal_weight": weight} for weight in (1.0, 0.3, 3.0)],
    **{
        f"joint:{method}": [{f"balancer__{parameter}": value} for value in values]
        for method, parameter, values in [
            ("AGM", "alpha", (1.0, 0.5, 2.0)),
            ("AMCo", "sigma", (0.5, 0.65, 0.8)),
            ("GradientBlending", "n_epochs", (10, 5, 20)),
            ("InfoReg", "strength", (0.95, 0.3, 3.0)),
            ("LFM", "strength", (1.0, 0.3, 0.1)),
            ("MBSD", "strength", (1.0, 0.3, 3.0)),
            ("MMCosine", "scale", (10.0, 5.0, 15.0)),
            ("MMPareto", "gamma", (1.5, 1.0, 2.0)),
            ("ModalityDropout", "p", (0.3, 0.1, 0.5)),
            ("OGM", "alpha", (0.8, 0.3, 1.5)),
            ("OPM", "alpha", (0.5, 0.25, 1.0)),
            ("PMR", "alpha", (1.0, 0.5, 2.0)),
            ("PreTraining", "finetune", (0.1, "frozen", 1.0)),
            ("QMF", "rank_weight", (1.0, 0.1, 0.3)),
            ("ReconBoost", "agreement", (0.5, 0.0, 2.0)),
            ("Relearning", "strength", (3.0, 1.0, 7.0)),
            ("UMT", "scale", (10.0, 1.0, 50.0)),
        ]
    },
    "joint:MLA": [{}, {"balancer__projection": "none"}, {"balancer__weights": "sum"}],
    "joint:Valuation": [
        {},
        {"balancer__level": "modality"},
        {"balancer__level": "modality", "balancer__alpha": 0.3},
    ],
}
