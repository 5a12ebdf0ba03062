"""What several balancing methods need."""

from __future__ import annotations

import torch

from .._networks.multimodal_networks import Branch
from ._base import Balancer
from ._joint_training import Outputs, Training


def against_others(values: torch.Tensor, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each modality's values, and means of the others' values beside them.

    Parameters
    ----------
    values : Tensor of shape (n_modalities, n_rows)
        Of each modality in each row.
    outputs : Outputs
        Of the network for these rows.

    Returns
    -------
    own, others : Tensor of shape (n_modalities,)
        Sums by the rows' weights over the rows that have the modality and another.
    total : Tensor of shape (n_modalities,)
        Weight of these rows.
    """
    if not outputs.batch.present and outputs.batch.weight is None:
        own = values.sum(1)
        return own, (own.sum() - own) / (len(values) - 1), torch.full_like(own, values.shape[1])
    present = outputs.present.float()
    apart = 1 - torch.eye(len(values), device=values.device)
    n_others = apart @ present
    weight = present * (n_others > 0)
    if outputs.batch.weight is not None:
        weight = weight * outputs.batch.weight
    others = apart @ (values * present) / n_others.clamp(min=1)
    return (values * weight).sum(1), (others * weight).sum(1), weight.sum(1)


def score_ratios(outputs: Outputs) -> torch.Tensor:
    """Score of each modality by the mean score of the others, 1 where no row has it and another."""
    own, others, total = against_others(outputs.scores, outputs)
    return torch.where(total > 0, (own / others.clamp(min=torch.finfo(others.dtype).tiny)).clamp(max=1e6), 1.0)


def fuse(training: Training, outputs: Outputs, factors: torch.Tensor) -> torch.Tensor:
    """Fused logits from features times a factor by modality and row."""
    scaled = {name: f * k.unsqueeze(1) for (name, f), k in zip(outputs.features.items(), factors, strict=True)}
    with training.context.options.autocast():
        return training.module.fusion_head(scaled, outputs.batch).float()


@torch.no_grad()
def encode_rows(training: Training, branch: Branch) -> torch.Tensor:
    """Features of a branch in eval mode for the training rows, at their numbers in X; zeros elsewhere."""
    was_training = branch.training
    branch.eval()
    rows = training.rows.with_modality(branch.name)
    features = torch.zeros(len(rows.y), branch.embedding_dim, device=training.device)
    for part in rows.epoch(rows.eval_batch_size(training.context.options.batch_size)):
        batch = rows.batch(part)
        with training.context.options.autocast():
            features[batch.rows] = branch.encode(batch).float()
    branch.train(was_training)
    return features


def check_held_out(balancer: Balancer, training: Training) -> None:
    """Raise unless rows are held out for validation, some with each modality."""
    method = type(balancer).__name__
    if torch.equal(training.rows.rows, training.valid.rows):
        raise ValueError(
            f"balancer={method}() measures on held-out rows, and this fit has none. Use early_stopping=True and a "
            "validation_fraction that holds out rows, or more rows."
        )
    for name in training.names:
        if not len(training.valid.with_modality(name)):
            raise ValueError(
                f"balancer={method}() measures on held-out rows, and none of them has modality {name!r}. Use a larger "
                "validation_fraction, or more rows that have it."
            )
