"""Fitted estimators as files that can be taken from a stranger: data, and no code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import platform
import reprlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._serialization.json_values import NotPlain, check_size, decode, encode
from .._serialization.model_file import ModelFile, TensorSpec, write
from .._training.devices import resolve_device
from ..multimodal import (
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    UDIClassifier,
)
from ..multimodal.base import MultimodalClassifier
from .parameters import decode_parameters, encode_parameters

# Names in a file mean these classes and no others. Each has _to_file, _from_header and _from_tensors.
_ESTIMATORS: dict[str, type] = {
    estimator.__name__: estimator
    for estimator in (
        JointClassifier,
        LateFusionClassifier,
        ModalityGapAnalyzer,
        ModalityGapClassifier,
        UDIClassifier,
    )
}
# Those whose modules take long to import, by where they are.
_IMPORTED_LATE = {"VoiceEditDetector": "mmestim.voice"}
_LIBRARIES = ("torch", "numpy", "scikit-learn")
_PARTS = {"class", "parameters", "left_out", "facts", "versions"}

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
    name = _registered_name(estimator)
    check_is_fitted(estimator)
    parameters, left_out, modules = encode_parameters(estimator)
    facts, tensors = estimator._to_file()
    fields = {
        "class": name,
        "parameters": parameters,
        "left_out": left_out,
        "facts": _encode_facts(facts),
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
    with _telling(path), ModelFile(path) as file:
        return _rebuild(_checked(file.fields), file.specs, file.read, where, modules or {})


def describe(path: Path) -> str:
    """What is in a file, as text, from its header alone.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    str
        One line for each thing it holds; texts as Python writes them, so that none can be a command to a terminal.

    Raises
    ------
    ValueError
        If the header is not that of a model.
    OSError
        If there is no such file, or it cannot be read.
    """
    with _telling(path), ModelFile(path) as file:
        fields = _checked(file.fields)
        parts = {part: {k: decode(v, _SHOWN) for k, v in fields[part].items()} for part in ("facts", "parameters")}
        lines = [f"{fields['class']} in {os.fspath(path)!r}, {file.n_bytes} bytes, format {file.format}"]
        parts["versions it was written with"] = {"mmestim": file.written_by, **fields["versions"]}
        parts["parameters saved as their defaults, by type"] = fields["left_out"]
        parts["tensors (not read)"] = file.specs
        for title, entries in parts.items():
            lines += [
                "",
                f"{title}:",
                *(f"  {_shown(_Shown(name))} = {_shown(value)}" for name, value in entries.items()),
            ]
        return "\n".join(lines)


def _estimators() -> dict[str, type]:
    late = {name: getattr(importlib.import_module(where), name) for name, where in _IMPORTED_LATE.items()}
    return _ESTIMATORS | late


# Which estimators ---------------------------------------------------------------------------------


def _registered_name(estimator: Any) -> str:
    kind = type(estimator)
    if _estimators().get(kind.__name__) is kind:
        return kind.__name__
    what = f"mmestim.save takes a fitted {', '.join(_estimators())}; got "
    if isinstance(estimator, Pipeline):
        steps = {name: type(step).__name__ for name, step in estimator.steps}
        raise TypeError(
            f"{what}a Pipeline. Save its steps apart, each as fits it: {steps}; those of mmestim as in "
            f"mmestim.save(pipeline[{[*steps][-1]!r}], path)."
        )
    if hasattr(estimator, "best_estimator_"):
        raise TypeError(f"{what}a {kind.__name__}. Save its attribute best_estimator_.")
    if parents := [name for name, known in _estimators().items() if isinstance(estimator, known)]:
        raise TypeError(
            f"{what}{kind.__name__}, a subclass of {parents[-1]}, as which it would come back. Use pickle or joblib."
        )
    raise TypeError(f"{what}{reprlib.repr(estimator)}. Use joblib for what only you will open.")


def _checked(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields, which have the parts and the types that `save` gives them, and a class that is known."""
    if set(fields) != _PARTS or any(not isinstance(fields[part], dict) for part in _PARTS - {"class"}):
        raise ValueError(f"its header does not have the parts {sorted(_PARTS)}.")
    if not isinstance(fields["class"], str) or fields["class"] not in {*_ESTIMATORS, *_IMPORTED_LATE}:
        raise ValueError(
            f"it is a {reprlib.repr(fields['class'])}, which is none of {[*_ESTIMATORS, *_IMPORTED_LATE]}. A later "
            "version of mmestim may know it."
        )
    check_size(fields)
    return fields


def _encode_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    encoded = {}
    for name, value in facts.items():
        try:
            encoded[name] = encode(value)
        except NotPlain as error:
            raise ValueError(f"{name} is {error}: a file holds numbers, booleans and text.") from error
    return encoded


def _check_that_it_opens(
    estimator: Any, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], modules: Mapping[str, Any]
) -> None:
    """Raise ValueError unless `load` would make the same of it, with `modules` as the fit was given them."""
    specs = {name: TensorSpec.from_tensor(tensor) for name, tensor in tensors.items()}
    try:
        rebuilt = _rebuild(_checked(fields), specs, lambda: tensors, torch.device("cpu"), modules)
        if isinstance(estimator, MultimodalClassifier):
            estimator._check_rebuilt(rebuilt)
    except Exception as error:
        raise ValueError(
            f"{fields['class']} cannot be saved, because its parameters do not describe what was fitted: {error} "
            "Parameters changed since can be set back; or fit again."
        ) from error


# Back to an estimator ----------------------------------------------------------------------------


def _rebuild(
    fields: Mapping[str, Any],
    specs: Mapping[str, TensorSpec],
    read: Callable[[], Mapping[str, torch.Tensor]],
    device: torch.device,
    modules: Mapping[str, Any],
) -> Any:
    """The fitted estimator; `read` is called once all that the header says is known to fit together."""
    kind = _estimators()[fields["class"]]
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


# Texts --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Whatever a file can make go wrong as one ValueError that names it."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # A traceback would show the first error too, with commands to the terminal that the file may hold.
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {_printable(str(error))}") from None


def _printable(text: str) -> str:
    """The text in one line of at most a few hundred characters, none of them a command to a terminal."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class _Shown(str):
    """Text that stands for itself, once it is safe to print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(str(self))[1:-1]


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{_REPR.repr(value.tolist())}, {value.dtype}"
    return _REPR.repr(value)


_LONGEST = 800
_REPR = reprlib.Repr()
_REPR.maxlist = _REPR.maxdict = _REPR.maxtuple = 20
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 100
_SHOWN = {
    "module": lambda name: _Shown(f"modules[{name!r}]"),
    "balancer": lambda content: _Shown(f"{content['class']}({_REPR.repr(content['parameters'])})"),
}
