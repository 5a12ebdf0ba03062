"""Fitted estimators as files that can be taken from a stranger: data, and no code."""

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
from .._serialization.model_file import ModelFile, TensorSpec, write
from .._training.devices import resolve_device
from ..multimodal.base import MultimodalClassifier
from .header import check_fields, encode_facts, naming_file
from .parameters import decode_parameters, encode_parameters
from .registry import estimator_classes, registered_name

_LIBRARIES = ("torch", "numpy", "scikit-learn")

Path = str | os.PathLike[str]


def save(estimator: Any, path: Path) -> None:
    """Write a fitted estimator to one file that holds data and no code.

    The file is safetensors: weights and columns of the modalities as tensors, and in the header, as JSON, the
    name of the class, the parameters, the classes and what else `predict` and its kin need. It can be taken
    from a stranger, and opened on any device and by later versions.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package. Of a Pipeline or a search, save the estimator within.
    path : str or path-like
        File to write, with any ending; ``.mme`` is ours. What is there is replaced once all is written.

    Raises
    ------
    TypeError
        If `estimator` is no estimator of this package, is a subclass of one, its encoder or balancer has no name
        that `load` could be told, or its balancer has parameters, or its network a state, that are not data.
    ValueError
        If parameters have been changed since `fit`, so that they do not describe its network, an encoder or balancer
        of your own cannot be made anew or then answers otherwise, or labels, tensors or the header have a kind of
        number or a size that the file does not take.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    OSError
        If `path` is a folder or in none, or the file cannot be written; the old one is then whole.

    See Also
    --------
    load : The way back.

    Notes
    -----
    What belongs to the training stays behind: `history_`, `balance_history_`, `balancer_`, `guidance_history_`,
    `gap_history_` and `analyzer_`, which can be saved by itself. Parameters that are not data, such as
    callbacks, a splitter or a `RandomState`, and `checkpoint`, are saved as their defaults, which
    ``python -m mmestim info`` lists.

    Encoders and balancers of your own are saved by name: a class or function by its own, an instance by that of
    its class, a `functools.partial` by that of its function. Where an `encoder` dict has different ones of one
    name, each is called by its modality too, such as ``audio.Sequential``. They are made anew, as `load` will do,
    to see that the file opens. Of what changes in training they must keep all in parameters and persistent buffers:
    other buffers are compared with new ones, plain attributes only by what the network makes of zeros.

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
    _check_that_it_opens(estimator, fields, tensors, modules)
    write(path, fields, tensors, version("mmestim"))


def load(path: Path, *, device: str | torch.device = "auto", modules: Mapping[str, Any] | None = None) -> Any:
    """Open a file that `save` wrote.

    Nothing in the file is run: classes are looked up in a fixed list, and all that the header says is checked
    before memory is taken for the tensors; encoders of your own are made one after the other, each once the one
    before is known to be that of the file. Its checksums tell damage, not who made it: a model still predicts
    whatever its maker wanted.

    Parameters
    ----------
    path : str or path-like
        The file.
    device : str or torch.device, default='auto'
        Where the network is to predict: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``, or ``'auto'`` for the
        first GPU there is. The parameter `device` of the estimator stays that of the fit.
    modules : dict of str to class, callable or nn.Module, default=None
        Encoders and balancers of your own by the names that the file gives them: a class, a function that makes
        an encoder as `encoder` does, or an instance, which is copied and gets the weights of the file; of a balancer
        its class. Others are not looked at.

    Returns
    -------
    object
        The fitted estimator. On the same device, with the same number of threads and the same libraries, its
        predictions are identical.

    Raises
    ------
    ValueError
        If the file is not whole, not a model, written in a newer format, or says what cannot be; if it needs
        `modules` that are not given; or if `device` is not on this machine.
    TypeError
        If `modules` is not a dict.
    OSError
        If there is no such file, or it cannot be read.

    See Also
    --------
    save : What the file holds, and an example.

    Examples
    --------
    A network with an encoder of one's own, which the file only names:

    >>> import tempfile, os
    >>> from torch import nn
    >>> import mmestim
    >>> from mmestim.datasets import load_digit_views
    >>> class Small(nn.Sequential):
    ...     def __init__(self, input_shape):
    ...         super().__init__(nn.Linear(input_shape[0], 8), nn.Tanh())
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = mmestim.LateFusionClassifier(digits.modalities, encoder=Small, max_epochs=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.mme")
    ...     mmestim.save(clf.fit(digits.data, digits.target), path)
    ...     loaded = mmestim.load(path, modules={"Small": Small})
    >>> loaded.transform(digits.data).shape
    (1797, 16)
    """
    if modules is not None and not isinstance(modules, Mapping):
        raise TypeError(
            f"modules={modules!r} must be a dict from the names in the file, such as {{'MyEncoder': MyEncoder}}."
        )
    where = resolve_device(device)
    with naming_file(path), ModelFile(path) as file:
        return _rebuild(check_fields(file.fields), file.specs, file.read, where, modules or {})


def _check_that_it_opens(
    estimator: Any, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], modules: Mapping[str, Any]
) -> None:
    """Raise ValueError unless `load` would make the same of it, with `modules` as the fit was given them."""
    specs = {name: TensorSpec.from_tensor(tensor) for name, tensor in tensors.items()}
    try:
        rebuilt = _rebuild(check_fields(fields), specs, lambda: tensors, torch.device("cpu"), modules)
        if isinstance(estimator, MultimodalClassifier):
            estimator._check_rebuilt(rebuilt)
    except Exception as error:
        raise ValueError(
            f"{fields['class']} cannot be saved, because its parameters do not describe what was fitted: {error} "
            "Parameters changed since can be set back; or fit again."
        ) from error


def _rebuild(
    fields: Mapping[str, Any],
    specs: Mapping[str, TensorSpec],
    read: Callable[[], Mapping[str, torch.Tensor]],
    device: torch.device,
    modules: Mapping[str, Any],
) -> Any:
    """The fitted estimator; `read` is called once all that the header says is known to fit together."""
    kind = estimator_classes()[fields["class"]]
    parameters, named = decode_parameters(fields["parameters"], modules)
    if missing := sorted(named - set(modules)):
        given = ", ".join(f"{name!r}: ..." for name in missing)
        raise ValueError(f"it names what no file can hold: pass modules={{{given}}}, with what the fit was given.")
    if unknown := sorted(set(parameters) - set(inspect.signature(kind).parameters)):
        raise ValueError(f"it has the parameters {unknown}, which {kind.__name__} of this version does not have.")
    # It would have a later fit write there.
    defaults = inspect.signature(kind).parameters
    left_out = [name for name in getattr(kind, "_parameters_left_out", ()) if name in parameters]
    if brought := [name for name in left_out if parameters[name] and parameters[name] != defaults[name].default]:
        raise ValueError(f"it sets {brought}, which mmestim.save leaves out.")
    estimator: Any = kind(**parameters)  # Those that an earlier version did not have get their defaults.
    facts = {name: decode(value) for name, value in fields["facts"].items()}
    draft = estimator._from_header(facts, specs, device, bool(named))
    estimator._from_tensors(draft, read(), device)
    return estimator
