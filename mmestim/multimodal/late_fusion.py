"""Late fusion of independently trained branches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._data.modalities import Modalities
from .._networks.multimodal_networks import Branch, LateFusion
from .._utils.validation import check_choice
from .base import FitContext, MultimodalClassifier
from .branch_training import train_branches


class LateFusionClassifier(MultimodalClassifier):
    """Late fusion of branches that are trained alone, one per modality.

    Each modality gets an encoder and a linear head of its own, trained by cross-entropy without the
    others; a prediction adds up their logits. No modality can silence another, and none learns from
    another.

    Parameters
    ----------
    modalities : dict of str to slice, list of int or list of str, default=None
        Columns of `X` in each modality: a slice, column numbers, or column names of a DataFrame.
        Every column belongs to exactly one. `None` takes `X` as a single modality named ``x``; an
        `X` that is a dict of arrays brings its own names.
    fusion : {'sum', 'mean'}, default='sum'
        Sum of the branches' logits, or mean of their probabilities, over those present.
    shapes : dict of str to tuple of int, default=None
        Shape of one sample of the modalities that are not plain vectors, such as
        ``{"image": (28, 28)}``; channels come first. A single axis, such as ``(16000,)``, marks a
        signal. An `X` that is a dict of arrays brings its own.
    encoder : str, nn.Module, class, callable or dict, default='auto'
        Network from a modality's block to a feature vector. ``'auto'`` goes by the shape: ``'mlp'``
        for vectors, ``'conv1d'`` for signals, ``'conv2d'`` for two axes or three; ``'linear'`` is
        one affine map. These four standardise their input by the training rows. A class or factory
        is called with `input_shape` and `embedding_dim` if it takes them, and must map a batch to
        (n_samples, n_features). An instance is copied, weights included, never trained in place. A
        dict gives one of these per modality, ``'auto'`` for those it leaves out.
    embedding_dim : int, default=64
        Length of the feature vector of built-in encoders.
    optimizer : {'sgd', 'adamw'} or torch.optim class, default='sgd'
        ``'sgd'`` has momentum 0.9, the field's protocol. A class, or a `functools.partial` of one,
        is called with the parameters, `lr` and, if it takes one and a partial has none yet,
        `weight_decay`.
    lr : float, default=0.01
        Learning rate.
    lr_schedule : {'step', 'cosine'} or None, default='step'
        Learning rate over the epochs: a tenth from 70 % of `max_epochs` on, a half cosine to zero
        at `max_epochs`, or constant.
    weight_decay : float, default=1e-4
        L2 penalty of the weights.
    max_grad_norm : float or None, default=None
        Longest gradient allowed; longer ones are scaled down to it.
    batch_size : int, default=64
        Rows per training step. A last batch of one row joins the one before.
    max_epochs : int, default=100
        Most epochs of any stage of training.
    early_stopping : bool, default=True
        Whether to hold out rows of the training data, keep the epoch with the best accuracy on them
        (of equal ones the lowest loss), and stop when it has not improved for `n_iter_no_change`
        epochs. Where no row can be spared, the training rows take their place. With False, all rows
        train for `max_epochs`.
    validation_fraction : float, default=0.1
        Fraction of the training rows to hold out, stratified by class, and by whole groups if `fit`
        is given `groups`.
    n_iter_no_change : int, default=10
        Epochs without improvement before training stops.
    class_weight : dict, 'balanced' or None, default=None
        Weight of each class in the losses and the validation scores, or weights in inverse proportion
        to the classes' rows.
    precision : {'float32', 'bf16'}, default='float32'
        Arithmetic of encoders and heads; losses, scores and outputs are float32.
    compile : bool, default=False
        Whether to train through `torch.compile`. It needs a C++ compiler on the CPU.
    device : str or torch.device, default='auto'
        Where to train and predict: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``, or ``'auto'`` for
        the first GPU there is.
    max_memory : float, default=1024
        MiB that blocks may take as float32 tensors on the device. Blocks beyond it, smallest kept
        first, and memory maps of any size are read batch by batch.
    callbacks : list of skorch callbacks, default=None
        Called with the skorch net of each training stage in turn, as skorch does; losses and scores
        are in its history once an epoch, not once a batch, so `BatchScoring` is not served, and
        `EpochScoring` needs its caching. One that raises KeyboardInterrupt at the end of an epoch ends
        the stage, as skorch's do.
    checkpoint : str, path-like or None, default=None
        Folder, made if missing, that gets the state of training after every epoch. Where `fit` was killed,
        the next one with the same data and parameters, an int as `random_state` among them, goes on, and
        ends with the weights of a fit that was not; what is done is not trained again. The folder grows by a
        network for every stage, and can be deleted at any time. Callbacks see the epochs that are left;
        what they remember goes on if they are skorch's schedulers, stoppers or scorers, or have
        `state_dict` and `load_state_dict`. Of encoders parameters and buffers go on, plain attributes do not.
    verbose : int, default=0
        0 is silent, 1 shows a progress bar, 2 prints a line per epoch; both say how many rows
        validate.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, shuffling and the inner split. Torch's global generators are left
        alone. Results repeat exactly for the same seed, device and number of threads.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of `X`, if it had any that are all strings.
    modalities_ : dict of str to ndarray of int
        Columns of each modality.
    shapes_ : dict of str to tuple of int
        Per-sample shapes that were given or came with a dict.
    module_ : torch.nn.Module
        The trained network, in eval mode on `device_`.
    device_ : str
        Where it is.
    history_ : list of dict
        One entry per epoch: stage, modality, epoch, train_loss, lr, dur (seconds) and, with early
        stopping, valid_loss and valid_accuracy.
    n_iter_ : int
        Number of epochs of all stages together.

    See Also
    --------
    UDIClassifier : The same branches, of which the strongest guides the others.
    JointClassifier : All modalities trained together by one fused loss.

    Notes
    -----
    Each branch stops early by its own validation accuracy.

    A modality is absent from a row where its whole block is NaN; the row trains and is predicted by
    the modalities it has. Tools that permute single columns, such as `permutation_importance`, leave
    half-empty blocks, which are refused: impute first. Tools that drop columns cannot know groups given
    by position; `BaggingClassifier` drops column names too, and so takes all features or one modality.

    Examples
    --------
    >>> from mmestim import LateFusionClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "projections"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> clf.fit(digits.data, digits.target).predict_proba(digits.data).shape
    (1797, 10)
    >>> sorted(clf.predict_proba_per_modality(digits.data))
    ['pixels', 'projections']
    """

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        fusion: str = "sum",
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        encoder: Any = "auto",
        embedding_dim: int = 64,
        optimizer: Any = "sgd",
        lr: float = 0.01,
        lr_schedule: str | None = "step",
        weight_decay: float = 1e-4,
        max_grad_norm: float | None = None,
        batch_size: int = 64,
        max_epochs: int = 100,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Mapping[Any, float] | str | None = None,
        precision: str = "float32",
        compile: bool = False,
        device: Any = "auto",
        max_memory: float = 1024,
        callbacks: list[Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            modalities,
            shapes=shapes,
            encoder=encoder,
            embedding_dim=embedding_dim,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            class_weight=class_weight,
            precision=precision,
            compile=compile,
            device=device,
            max_memory=max_memory,
            callbacks=callbacks,
            checkpoint=checkpoint,
            verbose=verbose,
            random_state=random_state,
        )
        self.fusion = fusion

    def _check_parameters(self) -> None:
        check_choice("fusion", self.fusion, ("sum", "mean"))

    def _fit_module(self, context: FitContext) -> tuple[LateFusion, bool]:
        branches, interrupted = train_branches(
            context, self.modalities_, lambda name: self._build_branch(context, name)
        )
        return LateFusion(branches, self.fusion), interrupted

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> LateFusion:
        return LateFusion(branches, self.fusion)
