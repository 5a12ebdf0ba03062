"""Saving and loading of fitted estimators; the files contain data and no code."""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted

from .._serialization.json_values import decode
from .._serialization.model_file import ModelFile, TensorSpec, write_model_file
from .._training.devices import resolve_device
from ..multimodal.base import MultimodalClassifier
from .header import check_fields, encode_facts, file_errors
from .parameters import decode_parameters, encode_parameters
from .registry import estimator_classes, registered_name

_LIBRARIES = ("torch", "numpy", "scikit-learn")

Path = str | os.PathLike[str]


def save(estimator: Any, path: Path) -> None:
    """Save a fitted estimator to a file that contains data and no code.

    The file is in the safetensors format. Weights and the columns of the modalities are tensors. The header holds,
    as JSON, the name of the class, its parameters, its classes and the other fitted attributes that predictions
    need. It is safe to load a file from an untrusted source. Any device and later versions can load it.

    Parameters
    ----------
    estimator : object
        Fitted estimator of this package. Save the estimator inside a Pipeline or a search, not the container.
    path : str or path-like
        Path of the file; any suffix is accepted, and ``.mme`` is the usual one. An existing file is replaced only
        after the new one is complete.

    Raises
    ------
    TypeError
        If `estimator` is not an estimator of this package or is a subclass of one; if its encoder or balancer has no
        name that `load` could refer to; or if its balancer has parameters, or its network a state, that are not data.
    ValueError
        If parameters were changed after `fit`, so that they no longer describe the network; if an encoder or
        balancer of your own cannot be built again, or then gives different outputs; or if labels, tensors or the
        header have a dtype or a size that the file does not support.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    OSError
        If `path` is a folder, its folder does not exist, or the file cannot be written. An existing file is then
        unchanged.

    See Also
    --------
    load : Load the file.
    to_onnx : Write a classifier that predicts without Python and this package.

    Notes
    -----
    Attributes that only describe the training are not saved: `history_`, `balance_history_`, `balancers_`,
    `guidance_history_`, `gap_history_` and `analyzer_`, which can be saved separately. Parameters that are not data,
    such as callbacks, a splitter or a `RandomState`, and the parameter `checkpoint` are saved as their defaults;
    ``python -m mmestim info`` lists them.

    Built-in encoders are saved with their parameters, whether they were given by name, class, `functools.partial` or
    in `Augmented`; one with `weights` is saved by name alone, like your own, because a path belongs to one machine.

    The file holds only the names of your own encoders and balancers: the name of a class or function, of the class
    of an instance, or of the function of a `functools.partial`. If different encoders in an `encoder` dict share a
    name, the name of the modality is prepended, as in ``audio.Sequential``. `save` builds them again, as `load`
    will, to verify that the file can be loaded. State that changes in training must be in parameters and
    persistent buffers. Other buffers are compared with new ones; plain attributes are checked only by the output of
    the network for zeros.

    Other formats: `skops` cannot store torch tensors, and `skl2onnx` has no converter for these estimators.

    Examples
    --------
    >>> import tempfile, os
    >>> import mmestim
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = mmestim.JointClassifier(digits.modalities, max_epochs=2, random_state=0)
    >>> clf = clf.fit(digits.data, digits.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.mme")
    ...     mmestim.save(clf, path)
    ...     loaded = mmestim.load(path, device="cpu")
    >>> bool((loaded.predict(digits.data) == clf.predict(digits.data)).all())
    True
    """
    name = registered_name(estimator)
    check_is_fitted(estimator)
    parameters, left_out, modules = encode_parameters(estimator)
    facts, tensors = estimator._to_file()
    fields = {
        "class": name,
        "parameters": parameters,
        "left_out": left_out,
        "facts": encode_facts(facts),
        "versions": {"python": platform.python_version(), **{library: version(library) for library in _LIBRARIES}},
    }
    tensors = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
    _check_loadable(estimator, fields, tensors, modules)
    write_model_file(path, fields, tensors, version("mmestim"))


def load(path: Path, *, device: str | torch.device = "auto", modules: Mapping[str, Any] | None = None) -> Any:
    """Load an estimator from a file that `save` wrote.

    No code in the file is run. Classes are looked up in a fixed list, and the whole header is checked before memory
    is allocated for the tensors. Your own encoders are built one at a time, each after the previous one has been
    checked against the file. The checksums in the file detect corruption; they are not signatures, so the author of
    a file decides what its model predicts.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    device : str or torch.device, default='auto'
        Device for predictions: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``, or ``'auto'`` for the first GPU if
        there is one. The parameter `device` of the estimator keeps the value from the fit.
    modules : dict of str to class, callable or nn.Module, default=None
        Your own encoders and balancers by their names in the file. For an encoder, give a class, a function that
        builds it as the parameter `encoder` does, or an instance, which is copied and gets the weights of the file.
        For a balancer, give its class. Other names are ignored.

    Returns
    -------
    object
        Fitted estimator. Its predictions are identical to those of the saved one on the same device, with the same
        number of threads and the same library versions.

    Raises
    ------
    ValueError
        If the file is truncated, damaged, inconsistent, not a model, or written in a newer format; if it requires
        `modules` that are missing; or if `device` is not available.
    TypeError
        If `modules` is not a dict.
    OSError
        If the file does not exist or cannot be read.

    See Also
    --------
    save : Contents of the file, and an example.

    Examples
    --------
    Load a network with your own encoder, of which the file holds only the name:

    >>> import tempfile, os
    >>> from torch import nn
    >>> import mmestim
    >>> from mmestim.datasets import load_digit_views
    >>> class Small(nn.Sequential):
    ...     def __init__(self, input_shape):
    ...         super().__init__(nn.Linear(input_shape[0], 8), nn.Tanh())
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = mmestim.LateFusionClassifier(digits.modalities, encoder=Small, cv=None, max_epochs=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.mme")
    ...     mmestim.save(clf.fit(digits.data, digits.target), path)
    ...     loaded = mmestim.load(path, modules={"Small": Small})
    >>> loaded.transform(digits.data).shape
    (1797, 16)
    """
    if modules is not None and not isinstance(modules, Mapping):
        raise TypeError(
            f"modules={modules!r} must be a dict whose keys are names in the file, such as {{'MyEncoder': MyEncoder}}."
        )
    resolved_device = resolve_device(device)
    with file_errors(path), ModelFile(path) as file:
        return _rebuild(check_fields(file.fields), file.specs, file.read, resolved_device, modules or {})


def _check_loadable(
    estimator: Any, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], modules: Mapping[str, Any]
) -> None:
    """Raise ValueError unless `load`, with the `modules` of the fit, would restore an equivalent estimator."""
    specs = {name: TensorSpec.from_tensor(tensor) for name, tensor in tensors.items()}
    try:
        rebuilt = _rebuild(check_fields(fields), specs, lambda: tensors, torch.device("cpu"), modules)
        if isinstance(estimator, MultimodalClassifier):
            estimator._check_rebuilt(rebuilt)
    except Exception as error:
        raise ValueError(
            f"{fields['class']} cannot be saved, because its parameters do not describe the fitted network: {error} "
            "Restore the parameters that were changed after fit, or fit again."
        ) from error


def _rebuild(
    fields: Mapping[str, Any],
    specs: Mapping[str, TensorSpec],
    read: Callable[[], Mapping[str, torch.Tensor]],
    device: torch.device,
    modules: Mapping[str, Any],
) -> Any:
    """Return the fitted estimator; call `read` only after the header has been found consistent."""
    estimator_class = estimator_classes()[fields["class"]]
    parameters, module_names = decode_parameters(fields["parameters"], modules)
    if missing := sorted(module_names - set(modules)):
        arguments = ", ".join(f"{name!r}: ..." for name in missing)
        raise ValueError(
            f"it contains only the names of your own encoders or balancers: pass modules={{{arguments}}} with the "
            "objects that were used in fit."
        )
    signature = inspect.signature(estimator_class).parameters
    if unknown := sorted(set(parameters) - set(signature)):
        raise ValueError(
            f"it has the parameters {unknown}, which {estimator_class.__name__} of this version does not have."
        )
    # Refuse a file that sets these, such as checkpoint: a later fit would write to a path that the file chose.
    never_saved = [name for name in getattr(estimator_class, "_parameters_left_out", ()) if name in parameters]
    if injected := [name for name in never_saved if parameters[name] and parameters[name] != signature[name].default]:
        raise ValueError(f"it sets {injected}, which mmestim.save never saves.")
    estimator: Any = estimator_class(**parameters)  # Parameters added since the file was written get their defaults.
    facts = {name: decode(value) for name, value in fields["facts"].items()}
    skeleton = estimator._from_header(facts, specs, device, bool(module_names))
    estimator._from_tensors(skeleton, read(), device)
    return estimator
