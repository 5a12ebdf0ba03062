"""Base class of the multimodal classifiers: validation, fit, predictions and pickling."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._data.batches import Batch, Rows, eval_batch_size
from .._data.blocks import Blocks
from .._data.modalities import Modalities, check_X
from .._data.row_weights import row_weights
from .._data.splits import (
    Folds,
    Split,
    check_cv_parameter,
    check_groups,
    ensure_training_rows,
    fold_splits,
    inner_split,
)
from .._distributed.exchange import check_same, from_first
from .._distributed.processes import data_parallel
from .._networks.multimodal_networks import Branch, MultimodalModule
from .._serialization.model_file import TensorSpec
from .._training.callbacks import Stages
from .._training.checkpoints import Checkpoints, check_checkpoint
from .._training.devices import autocast, seeded
from .._training.fingerprint import brief_fingerprint, fingerprint
from .._training.options import LearningRate, Monitor, Optimizer, Precision, Schedule, TrainingOptions
from .._utils.sizes import sizeof_attributes
from .._utils.types import Seed
from .._utils.validation import check_number
from ..encoders.choice import Encoder, build_encoder, encoder_for, is_tried
from ..encoders.standardize import fit_statistics
from ..encoders.trial import check_values, try_encoder
from . import saved_classifier
from .fit_context import FitContext

# Training in the papers on UDI and the modality gap, without the learning rate. The schedule and the choice of the
# epoch, by accuracy and without early end, are ours.
PUBLISHED_PROTOCOL: dict[str, Any] = {
    "optimizer": "sgd",
    "lr_schedule": "step",
    "weight_decay": 1e-4,
    "batch_size": 64,
    "max_epochs": 100,
    "cv": None,
    "monitor": "valid_accuracy",
}


def published_parameters(settings: Mapping[str, Any], replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a paper's protocol, with its own settings and those that a user replaces."""
    parameters = PUBLISHED_PROTOCOL | {**settings, **replaced}
    return {"n_iter_no_change": parameters["max_epochs"], **parameters}


class MultimodalClassifier(TransformerMixin, ClassifierMixin, BaseEstimator):
    """Base of the multimodal classifiers; the subclasses document the parameters."""

    # With metadata routing enabled, `groups` reach the inner split without `set_fit_request`.
    __metadata_request__fit: ClassVar = {"groups": True}

    # Fitted attributes that a saved file stores for its reader, beside those that predictions need.
    _saved_attributes: ClassVar[tuple[str, ...]] = ("n_iter_", "n_networks_")
    # Parameters that hold classes, functions or networks, of which a file stores only the names.
    _parameters_with_modules: ClassVar[tuple[str, ...]] = ("encoder",)
    # Parameters of the training machine, which a file does not store.
    _parameters_left_out: ClassVar[tuple[str, ...]] = ("callbacks", "checkpoint")

    classes_: NDArray[Any]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    modalities_: dict[str, NDArray[np.int64]]
    shapes_: dict[str, tuple[int, ...]]
    offsets_: dict[str, NDArray[np.float64]]
    module_: MultimodalModule
    device_: str
    history_: list[dict[str, Any]]
    n_iter_: int
    n_networks_: int
    _column_names: dict[str, list[str]]
    _channels_last: list[str]

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        encoder: Encoder | Mapping[str, Encoder] = "auto",
        embedding_dim: int = 64,
        cv: Literal["auto"] | Folds | None = "auto",
        optimizer: Optimizer = "adamw",
        lr: LearningRate = "auto",
        lr_schedule: Schedule | None = "auto",
        weight_decay: float | Literal["auto"] = "auto",
        max_grad_norm: float | None = None,
        batch_size: int = 64,
        accumulate: int = 1,
        max_epochs: int = 100,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        monitor: Monitor = "valid_loss",
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        precision: Precision = "float32",
        compile: bool = False,
        device: str | torch.device = "auto",
        max_memory: float = 1024,
        callbacks: list[Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        random_state: Seed = None,
    ) -> None:
        self.modalities = modalities
        self.shapes = shapes
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.cv = cv
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.monitor = monitor
        self.class_weight = class_weight
        self.precision = precision
        self.compile = compile
        self.device = device
        self.max_memory = max_memory
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.verbose = verbose
        self.random_state = random_state

    @data_parallel
    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Fit the classifier to the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Blocks of columns as described by `modalities`, or one array per modality. A row that lacks
            a modality has NaN in its whole block. The notes of the class list further containers.
        y : array-like of shape (n_samples,)
            Class labels of any type.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the validation scores and in all losses except the bound of mutual
            information. They must be at least 0 and are scaled to mean 1. Rows of weight 0 are
            checked but not used.
        groups : array-like of shape (n_samples,), default=None
            Groups of the rows, such as speakers or patients. Every row has one. The rows of a group go to the same side
            of the inner split into training and validation rows. Other tools pass `groups` on only if
            metadata routing is enabled; otherwise a search passes them to its splitter alone.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or training diverges.
        """
        self.__dict__.pop("module_", None)  # If this fit fails, the network of an earlier fit must not predict.
        options = TrainingOptions.from_estimator(self)
        check_number("validation_fraction", self.validation_fraction, high=0.999, closed=False)
        check_cv_parameter(self.cv)
        if self.checkpoint is not None:
            check_checkpoint(self.checkpoint, self.random_state)
            if getattr(self.cv, "shuffle", False) and getattr(self.cv, "random_state", 0) is None:
                raise ValueError(
                    f"checkpoint={str(self.checkpoint)!r} requires a reproducible fit, but cv={self.cv!r} shuffles "
                    "differently each time. Give it a random_state."
                )
        self._check_parameters()
        blocks, labels = check_X(self, X, y, modalities=self.modalities, shapes=self.shapes, reset=True)
        options.check_part_lr(self.modalities_)
        check_classification_targets(labels)
        groups = check_groups(groups, len(labels))
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs 2 or more classes, got 1 class: {self.classes_.tolist()[0]!r}."
            )
        raw_weights = row_weights(sample_weight, self.class_weight, self.classes_, labels)
        rows = np.arange(len(labels)) if raw_weights is None else np.flatnonzero(raw_weights)
        self.offsets_ = blocks.fit_offsets(rows)
        blocks.load(self.max_memory, options.device)
        for name in self.modalities_:
            if not blocks.present(name)[rows].any():
                raise ValueError(
                    f"modality {name!r} is absent (all NaN) from every training row: drop its columns from X and "
                    "from modalities, or pass rows that have it."
                )
        seed = from_first(int(check_random_state(self.random_state).randint(2**31 - 1)))
        folds = self._split(rows, codes, blocks, groups, seed)
        weight = None
        if raw_weights is not None:
            mean_one = raw_weights / raw_weights[np.unique(np.concatenate([train for train, _ in folds]))].mean()
            weight = torch.tensor(mean_one, dtype=torch.float32, device=options.device)
        targets = torch.from_numpy(codes.astype(np.int64)).to(options.device)
        if options.verbose:
            if len(folds) > 1:
                text = f"{len(rows)} rows in {len(folds)} folds"
            else:
                text = f"{len(folds[0][0])} rows train, {len(folds[0][1])} rows validate"
            print(f"{type(self).__name__}: {text}, on {options.device}")
        all_rows = Rows(blocks, targets, weight, torch.arange(len(targets)), sorted(self.modalities_))
        check_same(partial(brief_fingerprint, self, all_rows, groups), type(self).__name__)
        if self.checkpoint is not None:
            fit_name = from_first(fingerprint(self, all_rows, groups, seed, options.device))
            options = replace(options, checkpoints=Checkpoints(self.checkpoint, fit_name, options.device))
        context = FitContext(all_rows, folds, options, seed, len(self.classes_))
        stages = Stages(self._n_stages(context))
        context.options = replace(options, stages=stages)
        self._try_encoders(context)
        self.history_, self.n_networks_ = context.history, 1
        try:
            self.module_, interrupted = self._fit_module(context)
        except KeyboardInterrupt:
            message = stages.interruption(type(self).__name__, self.checkpoint, is_fitted=False)
            raise KeyboardInterrupt(message) from None
        context.restore_encoders(self.module_)
        self.module_.eval()
        self.n_iter_ = len(self.history_)
        self.device_ = str(options.device)
        if interrupted:
            raise KeyboardInterrupt(stages.interruption(type(self).__name__, self.checkpoint, is_fitted=True))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Rows like those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Most probable class labels.
        """
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Predict class probabilities from the modalities that each row has.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Rows like those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities as float32, in the order of `classes_`.
        """
        return self._map_batches(X, lambda logits, features, present: torch.softmax(logits, dim=1))

    def predict_proba_per_modality(self, X: Any) -> dict[str, NDArray[np.float32]]:
        """Predict class probabilities from each modality alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Rows like those of `fit`.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, n_classes)
            Probabilities per modality, NaN in rows that lack it.
        """
        names = self._fitted_names()

        def unimodal_probabilities(
            logits: torch.Tensor, features: dict[str, torch.Tensor], present: dict[str, np.ndarray]
        ) -> torch.Tensor:
            probabilities = torch.stack(
                [torch.softmax(self.module_.unimodal_logits(features, name), dim=1) for name in names]
            )
            masks = torch.stack([torch.from_numpy(present[name]) for name in names]).to(probabilities.device)
            return probabilities.masked_fill(~masks.unsqueeze(2), torch.nan).transpose(0, 1)

        return dict(zip(names, self._map_batches(X, unimodal_probabilities).transpose(1, 0, 2), strict=True))

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings of each row: the features of all modalities, concatenated.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Rows like those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_embeddings)
            Features as float32, in the order of `modalities_`; zeros for an absent modality.
        """
        names = self._fitted_names()
        return self._map_batches(
            X, lambda logits, features, present: torch.cat([features[name] for name in names], dim=1)
        )

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the embeddings: the modality and a number.

        Parameters
        ----------
        input_features : object, default=None
            Ignored; exists for API consistency.

        Returns
        -------
        ndarray of str objects
            Names such as ``audio0``.
        """
        names = self._fitted_names()
        sizes = self.module_.embedding_sizes
        return np.array([f"{name}{i}" for name in names for i in range(sizes[name])], dtype=object)

    # Overridden by subclasses --------------------------------------------------------------------

    def _check_parameters(self) -> None:
        """Check the parameters of the subclass."""

    def _n_stages(self, context: FitContext) -> int:
        """Return the number of training stages of a fit, one for each call of `train`."""
        return len(context.folds)

    def _fit_module(self, context: FitContext) -> tuple[MultimodalModule, bool]:
        """Return the trained network, and whether Ctrl-C cut its training short."""
        raise NotImplementedError

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> MultimodalModule:
        """Return the untrained network of these branches, built without data."""
        raise NotImplementedError

    def _check_saved_attributes(self) -> None:
        """Check the attributes that a file sets; subclasses add theirs."""
        check_number("n_iter_", self.n_iter_, integer=True)
        check_number("n_networks_", self.n_networks_, low=1, integer=True)

    # Saving and loading --------------------------------------------------------------------------

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return saved_classifier.to_file(self)

    def _from_header(
        self, facts: Mapping[str, Any], specs: Mapping[str, TensorSpec], device: torch.device, has_user_modules: bool
    ) -> MultimodalModule:
        return saved_classifier.from_header(self, facts, specs, device, has_user_modules)

    def _from_tensors(
        self, module: MultimodalModule, tensors: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        saved_classifier.from_tensors(self, module, tensors, device)

    def _check_rebuilt(self, rebuilt: MultimodalClassifier) -> None:
        saved_classifier.check_rebuilt(self, rebuilt)

    # Used by subclasses ---------------------------------------------------------------------------

    def _split(self, rows: np.ndarray, codes: np.ndarray, blocks: Blocks, groups: Any, seed: int) -> list[Split]:
        """Return training and held-out rows of each network of the fit."""
        presence = np.stack([blocks.present(name) for name in sorted(self.modalities_)])
        folds = fold_splits(rows, codes, presence, groups, self.cv, seed)
        if folds is None:
            fraction = self.validation_fraction if self.early_stopping else 0.0
            folds = [inner_split(rows, codes, groups, fraction, seed)]
        for present in presence:
            folds = [ensure_training_rows(present, *fold) for fold in folds]
        return folds

    def _build_branch(self, context: FitContext, name: str) -> Branch:
        """Return a new branch for one modality, with the same initial weights at every call of a fit."""
        with seeded(context.seed_for(name), context.options.device):
            is_frozen = name in context.frozen
            encoder, n_features = context.frozen[name].stand_in() if is_frozen else self._new_encoder(name)
            branch = Branch(name, encoder, n_features, context.n_classes, accumulate=context.options.accumulate)
        rows = context.split_for(name)[0]
        batches = rows.epoch(rows.eval_batch_size(self.batch_size))
        fit_statistics(branch.encoder, (rows.read(name, part).cpu() for part in batches))
        return branch.to(context.options.device)

    def _new_encoder(self, name: str) -> tuple[nn.Module, int]:
        """Return the encoder that the parameters describe, built without data, and its number of features."""
        return build_encoder(
            self.encoder,
            name,
            self._sample_shape(name),
            is_signal=name in self.shapes_,
            embedding_dim=self.embedding_dim,
            names=self.modalities_,
        )

    def _try_encoders(self, context: FitContext) -> None:
        """Try encoders that may fail before any training, so that an error does not discard the epochs of others.

        Features of frozen encoders are computed here, and replace their blocks.
        """
        for name in self.modalities_:
            if not is_tried(encoder_for(self.encoder, name)):
                continue
            batches = (
                rows.read(name, part).cpu()
                for rows in (context.train.with_modality(name), context.valid.with_modality(name))
                for part in rows.epoch(rows.eval_batch_size(self.batch_size))
            )
            n_train_rows = min(len(train) for train, _ in context.folds_for(name))
            with seeded(context.seed_for(name), context.options.device):
                encoder, n_features = self._new_encoder(name)
                is_frozen = try_encoder(
                    encoder,
                    name,
                    batches,
                    offset=self.offsets_.get(name, 0),
                    batch_size=int(self.batch_size),
                    n_train_rows=n_train_rows,
                )
            if is_frozen:
                context.freeze(name, encoder, n_features, self.max_memory)

    def _sample_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one sample of a modality."""
        return self.shapes_.get(name, (len(self.modalities_[name]),))

    def _fitted_names(self) -> list[str]:
        """Return the names of the modalities, and raise NotFittedError before `fit`."""
        check_is_fitted(self)
        return list(self.modalities_)

    def _map_batches(self, X: Any, function: Callable[..., torch.Tensor]) -> NDArray[np.float32]:
        """Apply `function` to the logits, features and presence masks of each batch, and concatenate the results."""
        results = []
        for batch, present in self._iter_batches(X):
            with torch.no_grad(), autocast(self.precision, torch.device(self.device_)):
                results.append(function(*self.module_(batch), present).float().cpu().numpy())
        return np.concatenate(results)

    def _iter_batches(self, X: Any) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
        """Yield batches of all rows in order, on the device, and masks of the rows that have each modality."""
        check_is_fitted(self)
        blocks, _ = check_X(self, X, reset=False)
        device = torch.device(self.device_)
        for size, x, present in blocks.stream(eval_batch_size(blocks.shapes, self.batch_size)):
            for name, block in x.items():
                check_values(block, name, self.module_.branch(name).encoder)
            positions = {
                name: torch.from_numpy(np.flatnonzero(mask)).to(device)
                for name, mask in present.items()
                if not mask.all()
            }
            yield Batch({name: block.to(device) for name, block in x.items()}, positions, size), present

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = isinstance(self.modalities, Mapping) and len(self.modalities) > 1
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    __sizeof__ = sizeof_attributes

    def __getstate__(self) -> dict[str, Any]:
        return saved_classifier.state_on_cpu(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        saved_classifier.restore_device(self)
