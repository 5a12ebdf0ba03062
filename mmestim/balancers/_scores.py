"""Scores, fusion and features that several balancing methods share."""

from __future__ import annotations

import torch

from .._networks.multimodal_networks import Branch
from ._base import Balancer
from ._joint_training import Outputs, Training


def against_others(values: torch.Tensor, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compare the values of each modality with the mean value of the other modalities in the same rows.

    Parameters
    ----------
    values : Tensor of shape (n_modalities, n_rows)
        Values of each modality in each row.
    outputs : Outputs
        Outputs of the network for these rows.

    Returns
    -------
    modality_sums, other_sums : Tensor of shape (n_modalities,)
        Weighted sums over the rows that have the modality and another one: of its values, and of the means of the
        other modalities' values.
    total_weights : Tensor of shape (n_modalities,)
        Total weight of these rows.
    """
    if not outputs.batch.present and outputs.batch.weight is None:
        sums = values.sum(1)
        return sums, (sums.sum() - sums) / (len(values) - 1), torch.full_like(sums, values.shape[1])
    present = outputs.present.float()
    is_other = 1 - torch.eye(len(values), device=values.device)
    n_others = is_other @ present
    weights = present * (n_others > 0)
    if outputs.batch.weight is not None:
        weights = weights * outputs.batch.weight
    other_means = is_other @ (values * present) / n_others.clamp(min=1)
    return (values * weights).sum(1), (other_means * weights).sum(1), weights.sum(1)


def score_ratios(outputs: Outputs) -> torch.Tensor:
    """Return each modality's score over the mean score of the others; 1 if no row has it and another one."""
    modality_sums, other_sums, total_weights = against_others(outputs.scores, outputs)
    ratios = (modality_sums / other_sums.clamp(min=torch.finfo(other_sums.dtype).tiny)).clamp(max=1e6)
    return torch.where(total_weights > 0, ratios, 1.0) if outputs.batch.present else ratios


def fuse(training: Training, outputs: Outputs, factors: torch.Tensor) -> torch.Tensor:
    """Return the fused logits of features that are multiplied by a factor per modality and row."""
    scaled = {name: f * k.unsqueeze(1) for (name, f), k in zip(outputs.features.items(), factors, strict=True)}
    return training.fuse(scaled, outputs.batch)


@torch.no_grad()
def encode_rows(training: Training, branch: Branch) -> torch.Tensor:
    """Return a branch's features in eval mode, indexed by row of X; zero outside the training rows that have it."""
    was_training = branch.training
    branch.eval()
    rows = training.rows.with_modality(branch.name)
    features = torch.zeros(len(rows.y), branch.embedding_dim, device=training.device)
    for row_numbers in rows.epoch(rows.eval_batch_size(training.context.options.batch_size)):
        batch = rows.batch(row_numbers)
        with training.context.options.autocast():
            features[batch.rows] = branch.encode(batch).float()
    branch.train(was_training)
    return features


def check_held_out(balancer: Balancer, training: Training) -> None:
    """Raise unless rows are held out for validation, some of them with each modality."""
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
