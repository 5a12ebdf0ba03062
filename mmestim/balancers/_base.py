"""What a balancing method is: hooks into joint training, and what they see of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator

from .._data.batches import Batch, Rows
from .._networks.fusion_heads import FusionHead
from .._networks.multimodal_networks import Branch, JointModule, present_mask, true_class_share
from .._training.devices import seeded
from .._training.loop import train
from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from .._training.stateful import Stateful
from .._utils.validation import check_choice


class Outputs:
    """What the network makes of one batch; what is not asked for is not computed.

    Parameters
    ----------
    training : Training
        The training under way.
    batch : Batch
        The rows.
    output : (Tensor, dict of str to Tensor)
        Fused logits and features.

    Attributes
    ----------
    batch : Batch
        The rows: ``y``, ``weight``, ``size``, and ``present`` positions per modality.
    logits : Tensor of shape (n_rows, n_classes)
        Fused logits.
    features : dict of str to Tensor of shape (n_rows, embedding_dim)
        Of each modality, zeros in rows that lack it.
    """

    def __init__(self, training: Training, batch: Batch, output: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
        self.training, self.batch = training, batch
        self.logits, self.features = output

    @cached_property
    def unimodal(self) -> dict[str, torch.Tensor]:
        """Logits of each modality: its part of the fused ones, or those of its own head, as the balancer needs."""
        return self.training.unimodal_logits(self.features)

    @cached_property
    def present(self) -> torch.Tensor:
        """Boolean of shape (n_modalities, n_rows): which rows have which modality."""
        return torch.stack([present_mask(self.batch, name) for name in self.features])

    @cached_property
    def scores(self) -> torch.Tensor:
        """Probability of the true class from each modality, of shape (n_modalities, n_rows), without gradient."""
        return torch.stack([true_class_share(z.detach(), self.batch.y) for z in self.unimodal.values()])

    @cached_property
    def mean_scores(self) -> torch.Tensor:
        """Weighted mean of each modality's scores over the rows that have it and another; 0 where none has."""
        shared = self.present & (self.present.sum(0) > 1) if self.batch.present else self.present
        by = shared.float() if self.batch.weight is None else shared * self.batch.weight
        return (self.scores * by).sum(1) / torch.where(shared.any(1), by.sum(1), 1.0)


class Training(Stateful):
    """Joint training as a balancer sees it.

    Parameters
    ----------
    net : Net
        What trains.
    job : FitJob
        What it works on.
    balancer : Balancer
        Whose training it is.
    unimodal_weight : float
        Of the classifier.

    Attributes
    ----------
    names : list of str
        The modalities; tensors with one entry per modality follow this order.
    module : JointModule
        The network: ``branch(name).encoder``, ``branch(name).head``, ``fusion_head``.
    parameters : dict of str to list of Parameter
        The trainable ones of each encoder.
    rows, valid : Rows
        Training and validation rows.
    n_classes : int
        Number of classes.
    device : torch.device
        Where the network and the batches are.
    unimodal_weight : float
        Weight of the losses of the modalities' own heads.
    epoch : int
        Number of epochs that are over.
    """

    state_attributes = ("records", "history", "_sums", "_counts")

    def __init__(self, net: Any, context: Any, balancer: Balancer, unimodal_weight: float) -> None:
        self.net, self.context = net, context
        self.module: JointModule = getattr(net.module_, "_orig_mod", net.module_)
        self.names = self.module.names
        self.rows: Rows = context.train
        self.valid: Rows = context.valid
        self.n_classes: int = context.n_classes
        self.device: torch.device = context.options.device
        self.epoch = 0
        self.parameters = {
            name: [p for p in self.module.branch(name).encoder.parameters() if p.requires_grad] for name in self.names
        }
        self.unimodal_weight = unimodal_weight or float(balancer.unimodal == "heads")
        self._heads_answer = balancer.unimodal == "heads" or not self.module.fusion_head.is_sum
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self.records: list[dict[str, np.ndarray]] = []
        self.history: list[dict[str, Any]] = []  # of trainings within the training

    def forward(self, batch: Batch) -> Outputs:
        """What the network makes of a batch."""
        return Outputs(self, batch, self.net.infer(batch))

    def step(self, batch: Batch) -> None:
        """Move the weights by the gradients that are there."""
        self.net.step(batch)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.net.optimizer_.zero_grad()

    def unimodal_logits(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits of each modality from features, as the balancer needs them."""
        if self._heads_answer and not self.module.unimodal_heads:
            raise TypeError(
                "this balancer reads the logits of single modalities: set unimodal = 'split' or 'heads' in its class."
            )
        with self.context.options.autocast():
            if self._heads_answer:
                return {name: self.module.branch(name).head(f).float() for name, f in features.items()}
            return {name: z.float() for name, z in self.module.fusion_head.split(features).items()}

    def joint_loss(self, outputs: Outputs, fused: Batch | None = None) -> torch.Tensor:
        """Cross-entropy of the fused logits and of the heads, if there are any.

        Heads that are only there for the balancer to read do not reach the encoders.

        Parameters
        ----------
        outputs : Outputs
            Of the network for one batch.
        fused : Batch or None, default=None
            The batch as the fused loss weighs it, if that differs.

        Returns
        -------
        Tensor of shape ()
            The loss.
        """
        loss = weighted_cross_entropy(outputs.logits, outputs.batch if fused is None else fused)
        if not self.module.unimodal_heads:
            return loss
        features = outputs.features
        if self.unimodal_weight == 0:
            features = {name: f.detach() for name, f in features.items()}
        return loss + (self.unimodal_weight or 1.0) * self.unimodal_loss(features, outputs.batch)

    def unimodal_loss(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Sum of the cross-entropies of the modalities' own heads, each on the rows that have it."""
        with self.context.options.autocast():
            logits = {name: self.module.branch(name).head(f).float() for name, f in features.items()}
        return torch.stack([unimodal_cross_entropy(z, batch, name) for name, z in logits.items()]).sum()

    def generators(self, purpose: str) -> dict[str, torch.Generator]:
        """Random numbers on the device, of each modality's own, so that their order does not matter."""
        seeds = {name: self.context.seed_for(purpose, name) for name in self.names}
        return {name: torch.Generator(self.device).manual_seed(seed) for name, seed in seeds.items()}

    def scale_gradients(self, name: str, factor: torch.Tensor) -> None:
        """Multiply the gradients of one encoder."""
        gradients = [p.grad for p in self.parameters[name] if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, factor)

    def train_alone(self, name: str) -> Branch:
        """A copy of a modality's encoder as it is now, under a new head, trained by itself on the rows that have it."""
        branch, context = self.module.branch(name), self.context
        with seeded(context.seed_for(name, "head"), self.device):
            alone = Branch(name, copy.deepcopy(branch.encoder), branch.embedding_dim, self.n_classes).to(self.device)
        train_rows, valid_rows = context.split_for(name)
        run = train(
            alone,
            train_rows,
            valid_rows,
            context.options,
            n_classes=self.n_classes,
            seed=context.seed_for(name, "training"),
            stage="unimodal",
            modality=name,
        )
        self.history += run.history
        if run.interrupted:
            raise KeyboardInterrupt
        return alone

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> Iterator[Outputs]:
        """Outputs in eval mode, batch by batch."""
        was_training = self.module.training
        self.module.eval()
        try:
            for part in rows.epoch(rows.eval_batch_size(self.context.options.batch_size)):
                yield self.forward(rows.batch(part))
        finally:
            self.module.train(was_training)

    def record(self, name: str, value: torch.Tensor | float) -> None:
        """Remember a number, or one per modality; `balance_history_` has the means of each epoch."""
        value = torch.as_tensor(value).detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] = self._counts.get(name, 0) + 1

    def end_epoch(self) -> None:
        """Close the records of an epoch."""
        self.records.append({name: (v / self._counts[name]).cpu().numpy() for name, v in self._sums.items()})
        self._sums, self._counts = {}, {}


class Balancer(BaseEstimator):
    """Base of the balancing methods, which `JointClassifier` takes as `balancer`.

    A method is one class: parameters as those of any scikit-learn estimator, and those of the hooks
    below that it needs. State is kept in attributes that end in an underscore, set in `begin`; it
    belongs to one fit and is found afterwards, as numpy arrays, in `balancer_`. Attributes that begin
    with an underscore are of the training alone, and gone after it.

    Attributes
    ----------
    unimodal : {None, 'split', 'heads'}
        Of the class: which logits of single modalities the method reads. None; ``'split'``, the parts of the
        fused ones or, where fusion is no sum, heads that are trained beside; ``'heads'``, own heads whose
        cross-entropies join the loss.

    Notes
    -----
    Hooks are called in the order in which they stand here; with a single modality none is. The last two are for
    a classifier with `checkpoint`: `begin` is called in a fit that goes on too, and then `load_state_dict`. Parameters
    of the network are chosen by module, such as ``training.parameters["audio"]``. Nothing that is called
    for every batch should read a value back to the CPU.

    Examples
    --------
    A method that damps the modality with the higher score:

    >>> import torch
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import Balancer
    >>> from mmestim.datasets import load_digit_views
    >>> class Damp(Balancer):
    ...     unimodal = "split"
    ...
    ...     def __init__(self, factor=0.5):
    ...         self.factor = factor
    ...
    ...     def after_backward(self, training, outputs):
    ...         scores = outputs.mean_scores
    ...         factors = torch.where(scores == scores.max(), self.factor, 1.0)
    ...         for name, factor in zip(training.names, factors):
    ...             training.scale_gradients(name, factor)
    ...         training.record("factor", factors)
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=Damp(), max_epochs=3, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["factor"].shape
    (3, 2)
    """

    unimodal: ClassVar[str | None] = None

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead | None:
        """A fusion head of the method's own; `None` leaves the classifier's.

        Parameters
        ----------
        sizes : dict of str to int
            Length of each modality's features, in the order in which the head gets them.
        n_classes : int
            Number of logits.

        Returns
        -------
        FusionHead or None
            The head.
        """
        return None

    def begin(self, training: Training) -> None:
        """Before the first epoch.

        Parameters
        ----------
        training : Training
            The training that begins.
        """

    def begin_epoch(self, training: Training) -> None:
        """Before each epoch.

        Parameters
        ----------
        training : Training
            The training under way.
        """

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from one batch: by default `loss`, `backward`, `after_backward` and one step.

        Parameters
        ----------
        training : Training
            The training under way.
        batch : Batch
            Its next rows.

        Returns
        -------
        loss : Tensor of shape ()
            Loss, detached.
        logits : Tensor of shape (n_rows, n_classes)
            Fused logits.
        """
        training.zero_grad()
        outputs = training.forward(batch)
        loss = self.loss(training, outputs)
        self.backward(training, outputs, loss)
        self.after_backward(training, outputs)
        training.step(batch)
        return loss.detach(), outputs.logits

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        """What the network minimises; by default the joint loss.

        Parameters
        ----------
        training : Training
            The training under way.
        outputs : Outputs
            Of the network for one batch.

        Returns
        -------
        Tensor of shape ()
            The loss.
        """
        return training.joint_loss(outputs)

    def backward(self, training: Training, outputs: Outputs, loss: torch.Tensor) -> None:
        """From the loss to gradients in the parameters.

        Parameters
        ----------
        training : Training
            The training under way.
        outputs : Outputs
            Of the network for one batch.
        loss : Tensor of shape ()
            What `loss` returned.
        """
        loss.backward()

    def after_backward(self, training: Training, outputs: Outputs) -> None:
        """Between the gradients and the step.

        Parameters
        ----------
        training : Training
            The training under way.
        outputs : Outputs
            Of the network for one batch.
        """

    def end_epoch(self, training: Training) -> None:
        """After each epoch.

        Parameters
        ----------
        training : Training
            The training under way.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a training that was killed needs to go on: by default all attributes that are no parameters.

        Returns
        -------
        dict of str to object
            Numbers, strings, arrays, tensors, random generators, containers of these, and objects that have
            `state_dict` and `load_state_dict`, such as networks.
        """
        parameters = self.get_params(deep=False)
        return {name: value for name, value in vars(self).items() if name not in parameters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up such a state, after `begin`.

        Parameters
        ----------
        state : dict of str to object
            As `state_dict` gave it. Generators and objects with a state are those of `begin`, in their old state.
        """
        for name, value in state.items():
            setattr(self, name, value)

    def _needs_own_heads(self, head: FusionHead) -> bool:
        check_choice(f"{type(self).__name__}.unimodal", self.unimodal, (None, "split", "heads"))
        return self.unimodal == "heads" or (self.unimodal == "split" and not head.is_sum)

    def _keep_state(self) -> None:
        """After the fit: tensors become arrays, which any machine can read; what was private to it goes."""
        for name, value in list(vars(self).items()):
            if name.startswith("_"):
                delattr(self, name)
            elif name.endswith("_"):
                setattr(self, name, _as_arrays(value))


def _as_arrays(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        return {key: _as_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_arrays, value))
    return value
