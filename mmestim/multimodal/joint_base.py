"""Base class of the classifiers that train all modalities jointly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from .._networks.fold_networks import FoldHeads
from .._networks.fusion_heads import FusionHead, build_head
from .._networks.multimodal_networks import Branch, JointModule
from .._training.devices import seeded
from .._utils.validation import check_choice, check_number
from ..balancers._base import Balancer
from .base import MultimodalClassifier
from .fit_context import FitContext

Fusion = Literal["concat", "sum", "gated", "film"]


class JointBase(MultimodalClassifier):
    """Base of the classifiers with one fusion head, configured by `fusion` and `unimodal_weight`."""

    fusion: Fusion
    unimodal_weight: float

    def _check_parameters(self) -> None:
        check_choice("fusion", self.fusion, get_args(Fusion))
        check_number("unimodal_weight", self.unimodal_weight)

    def _build_joint(self, context: FitContext, balancer: Balancer | None = None) -> JointModule:
        """Return the untrained network, with input statistics from the training rows."""
        branches = {name: self._build_branch(context, name) for name in self.modalities_}
        with seeded(context.seed_for("fusion"), context.options.device):
            module = self._join(branches, context.n_classes, balancer)
        return module.to(context.options.device)

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> JointModule:
        n_networks = self.n_networks_
        balancers = [self._new_balancer() for _ in range(n_networks)]
        sizes = {name: branches[name].embedding_dim // n_networks for name in sorted(branches)}
        heads = [self._new_head(sizes, n_classes, balancer) for balancer in balancers]
        head = heads[0] if n_networks == 1 else FoldHeads(heads)
        return JointModule(branches, head, self._has_unimodal_heads(heads[0], balancers[0]))

    def _new_balancer(self) -> Balancer | None:
        """Return the balancer of one network, or None."""
        return None

    def _join(self, branches: dict[str, Branch], n_classes: int, balancer: Balancer | None) -> JointModule:
        """Join the branches of one network under its fusion head."""
        sizes = {name: branches[name].embedding_dim for name in sorted(branches)}
        head = self._new_head(sizes, n_classes, balancer)
        return JointModule(branches, head, self._has_unimodal_heads(head, balancer))

    def _new_head(self, sizes: Mapping[str, int], n_classes: int, balancer: Balancer | None) -> FusionHead:
        """Return the balancer's fusion head if it has one, or else the head that `fusion` names."""
        head = None if balancer is None else balancer.build_head(sizes, n_classes)
        if head is None:
            self._check_gates(list(self.modalities_))
            head = build_head(self.fusion, sizes, n_classes, list(self.modalities_))
        return head

    def _has_unimodal_heads(self, head: FusionHead, balancer: Balancer | None) -> bool:
        return self.unimodal_weight > 0 or (balancer is not None and balancer.needs_unimodal_heads(head))

    def _check_gates(self, names: list[str]) -> None:
        if self.fusion in ("gated", "film") and len(names) != 2:
            raise ValueError(
                f"fusion={self.fusion!r} takes two modalities, of which the first gates; got {len(names)}. "
                "Use fusion='concat' or 'sum'."
            )
