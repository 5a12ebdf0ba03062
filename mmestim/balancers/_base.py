"""Base class of the balancing methods: hooks into joint training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import torch
from sklearn.base import BaseEstimator

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._utils.validation import check_choice
from ._joint_training import Outputs, Training, Unimodal


class Balancer(BaseEstimator):
    """Base class of the balancing methods, which `JointClassifier` takes as `balancer`.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import Balancer
    >>> class SlowFirst(Balancer):
    ...     def after_backward(self, training, outputs):
    ...         training.scale_gradients(training.names[0], 0.5)
    >>> JointClassifier(balancer=SlowFirst())
    JointClassifier(balancer=SlowFirst())

    A method is one class: its parameters follow the conventions of scikit-learn, and it overrides the hooks below
    that it needs. State is kept in attributes that end in an underscore and are set in `begin`. It belongs to one
    fit; afterwards `balancers_` holds it as numpy arrays. Attributes that begin with an underscore exist during
    training only.

    Attributes
    ----------
    unimodal : {None, 'split', 'heads'}
        Class attribute: which unimodal logits the method reads. With ``'split'`` they are the parts of the fused
        logits; if the fusion is not a sum, additional heads are trained for them. With ``'heads'`` every modality has
        its own head, whose cross-entropy joins the loss. None means that the method reads none.

    Notes
    -----
    The hooks are listed in the order in which they are called. With a single modality none is called. The last two
    hooks serve a classifier with `checkpoint`: a fit that resumes calls `begin`, then `load_state_dict`. Choose
    parameters of the network by module, as in ``training.parameters["audio"]``. Code that runs for every batch should
    not read a value back to the CPU.

    In a fit on several processes, each one computes `outputs` of the whole batch. After `backward` the gradients are
    averaged. A method that reads gradients before calls ``training.average_gradients()``. Draw random numbers from
    ``training.generators``, which are the same on every process.
    """

    unimodal: ClassVar[Unimodal | None] = None

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead | None:
        """Build the method's own fusion head; None keeps the classifier's.

        Parameters
        ----------
        sizes : dict of str to int
            Length of each modality's features, in the order in which the head receives them.
        n_classes : int
            Number of logits.

        Returns
        -------
        FusionHead or None
            The head.
        """
        return None

    def needs_unimodal_heads(self, head: FusionHead) -> bool:
        """Return whether the network needs unimodal heads beside the fusion head; by default as `unimodal` says.

        Parameters
        ----------
        head : FusionHead
            Fusion head of the network.

        Returns
        -------
        bool
            Whether every modality gets a head of its own.
        """
        check_choice(f"{type(self).__name__}.unimodal", self.unimodal, (None, *get_args(Unimodal)))
        return self.unimodal == "heads" or (self.unimodal == "split" and not head.is_sum)

    def begin(self, training: Training) -> None:
        """Check the parameters and set up the state, before the first epoch.

        Parameters
        ----------
        training : Training
            The training that begins.
        """

    def begin_epoch(self, training: Training) -> None:
        """Prepare for an epoch, before its first batch.

        Parameters
        ----------
        training : Training
            The current training.
        """

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one batch: by default `loss`, `backward`, `after_backward` and one optimizer step.

        Parameters
        ----------
        training : Training
            The current training.
        batch : Batch
            The next rows.

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
        logits = outputs.logits  # fused before the step changes the weights
        self.backward(training, outputs, loss)
        training.average_gradients()
        self.after_backward(training, outputs)
        training.step(batch)
        return loss.detach(), logits

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        """Return the loss to minimise; by default the joint loss.

        Parameters
        ----------
        training : Training
            The current training.
        outputs : Outputs
            Outputs of the network for one batch.

        Returns
        -------
        Tensor of shape ()
            The loss.
        """
        return training.joint_loss(outputs)

    def backward(self, training: Training, outputs: Outputs, loss: torch.Tensor) -> None:
        """Compute the gradients of the parameters from the loss.

        Parameters
        ----------
        training : Training
            The current training.
        outputs : Outputs
            Outputs of the network for one batch.
        loss : Tensor of shape ()
            Value that `loss` returned.
        """
        loss.backward()

    def after_backward(self, training: Training, outputs: Outputs) -> None:
        """Modify the gradients before the optimizer step.

        Parameters
        ----------
        training : Training
            The current training.
        outputs : Outputs
            Outputs of the network for one batch.
        """

    def end_epoch(self, training: Training) -> None:
        """Finish an epoch, after its last batch.

        Parameters
        ----------
        training : Training
            The current training.
        """

    def end(self) -> None:
        """Finish the fit: by default convert the state to arrays, readable on any machine, and delete private ones."""
        for name, value in list(vars(self).items()):
            if name.startswith("_"):
                delattr(self, name)
            elif name.endswith("_"):
                setattr(self, name, _as_arrays(value))

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which an interrupted training resumes: by default all attributes but parameters.

        Returns
        -------
        dict of str to object
            Numbers, strings, arrays, tensors, random generators, containers of these, and objects with `state_dict`
            and `load_state_dict`, such as networks.
        """
        parameters = self.get_params(deep=False)
        return {name: value for name, value in vars(self).items() if name not in parameters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned, after `begin`.

        Parameters
        ----------
        state : dict of str to object
            The state. Generators and objects with a state of their own are those that `begin` created, already
            restored.
        """
        for name, value in state.items():
            setattr(self, name, value)


def _as_arrays(value: Any) -> Any:
    """Return `value` with its tensors, also those in containers, as numpy arrays."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        return {key: _as_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_arrays, value))
    return value
