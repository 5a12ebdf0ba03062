"""What a balancing method is: hooks into joint training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._utils.validation import check_choice
from ._joint_training import Outputs, Training


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
