"""Export of fitted classifiers as ONNX files."""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import json
import logging
import reprlib
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted

from .._networks.portable import PortableNetwork
from .._utils.atomic_write import write_atomically
from ..multimodal.base import MultimodalClassifier
from .save_load import Path

OUTPUT = "probabilities"
_MAX_BYTES = 2**31 - 2**25  # the limit of protobuf, without room for the graph
_REMEDY = (
    "Encoders and balancers of your own must treat every batch by the same torch operations: without branches on "
    "values, NumPy, or the number of rows as a constant, for which x.shape[0] replaces len(x)."
)


def to_onnx(estimator: Any, path: Path) -> None:
    """Write a fitted classifier to an ONNX file, which predicts without Python and this package.

    The file has one input per modality, with its name, and the output ``probabilities`` of shape
    (n_samples, n_classes). It gives what `predict_proba` returns, for any number of rows from one on. The preparation
    of the rows is part of the file: standardisation, the axes of images, the subtraction of offsets, and
    absent modalities.

    Parameters
    ----------
    estimator : JointClassifier, LateFusionClassifier, ModalityGapClassifier or UDIClassifier
        Fitted classifier. Export the classifier inside a Pipeline or a search, not the container.
    path : str or path-like
        Path of the file, usually with the suffix ``.onnx``. An existing file is replaced only after the new one is
        complete.

    Raises
    ------
    TypeError
        If `estimator` is not one of these classifiers, or overrides `predict_proba`.
    ValueError
        If the network cannot be exported, which happens only with encoders and balancers of your own; if a modality
        is named ``probabilities``; if the labels are not numbers, booleans or text; or if the network does not fit
        into 2 GiB.
    ImportError
        If `onnx` or `onnxscript` is not installed.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    OSError
        If `path` is a folder, its folder does not exist, or the file cannot be written. An existing file is then
        unchanged.

    See Also
    --------
    save : Files that `load` restores as an estimator of this package.

    Notes
    -----
    It needs the packages `onnx` and `onnxscript`: ``pip install mmestim[onnx]``.

    An input has the shape (n_samples, ...) of a block in a dict, with images as they were in `fit`. For a table, it is
    the columns of the modality, reshaped if the parameter `shapes` names it. Inputs are float32. Only those of
    modalities in `offsets_` are float64, because float32 could not tell their values apart.

    A block of NaN marks an absent modality. A graph cannot raise errors: for rows for which `predict_proba` does,
    because a block is partly NaN, infinite, or of the wrong type or beyond the range of its encoder, or all are
    absent, the probabilities are NaN. Encoders of your own follow the rules of ONNX, by which a negative index counts
    from the end.

    The file computes in float32 on every device. With ``precision='bf16'``, `predict_proba` rounds to 8 bits and
    the file does not.

    The metadata of the file are texts: ``estimator``, the name of the class, and, as JSON, ``classes``, the list of
    `classes_`, and ``feature_names``, those of each modality that are known. The version of this package is the
    version of the producer.

    Examples
    --------
    >>> import json, os, tempfile
    >>> import numpy as np
    >>> import onnxruntime
    >>> import mmestim
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = mmestim.JointClassifier(digits.modalities, max_epochs=2, cv=None, random_state=0)
    >>> clf = clf.fit(digits.data, digits.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.onnx")
    ...     mmestim.to_onnx(clf, path)
    ...     session = onnxruntime.InferenceSession(path)
    >>> blocks = {name: digits.data[:5, columns].astype("float32") for name, columns in clf.modalities_.items()}
    >>> [probabilities] = session.run(None, blocks)
    >>> bool(np.allclose(probabilities, clf.predict_proba(digits.data[:5]), atol=1e-5))
    True
    >>> classes = np.array(json.loads(session.get_modelmeta().custom_metadata_map["classes"]))
    >>> bool((classes[probabilities.argmax(axis=1)] == clf.predict(digits.data[:5])).all())
    True
    """
    _check_estimator(estimator)
    check_is_fitted(estimator)
    _check_packages()
    if OUTPUT in estimator.modalities_:
        raise ValueError(
            f"modality {OUTPUT!r} has the name of the output of the file. Give the modality another name in X or in "
            "modalities, and fit again."
        )
    metadata = _metadata(estimator)
    shapes = {name: estimator._sample_shape(name) for name in estimator.modalities_}
    module = copy.deepcopy(estimator.module_).cpu()
    network = PortableNetwork(module, shapes, estimator._channels_last, estimator.offsets_).eval()
    n_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    if n_bytes > _MAX_BYTES:
        raise ValueError(
            f"the network of {type(estimator).__name__} has {n_bytes} bytes, but an ONNX file holds less than 2 GiB. "
            "Use smaller encoders, or fewer networks, as with cv=None."
        )
    program = _export(network, type(estimator).__name__)
    _name_inputs(program.model, network.names)
    program.model.producer_name, program.model.producer_version = "mmestim", version("mmestim")
    program.model.metadata_props.update(metadata)
    write_atomically(path, [program.model_proto.SerializeToString()])


def _check_estimator(estimator: Any) -> None:
    if not isinstance(estimator, MultimodalClassifier):
        raise TypeError(
            f"to_onnx expects a fitted JointClassifier, LateFusionClassifier, ModalityGapClassifier or UDIClassifier, "
            f"got {reprlib.repr(estimator)}. Export the classifier inside a Pipeline, pipeline[-1], or inside a "
            "search, search.best_estimator_."
        )
    if type(estimator).predict_proba is not MultimodalClassifier.predict_proba:
        raise TypeError(
            f"{type(estimator).__name__} overrides predict_proba, and the file would not follow it. Export an "
            "estimator of the class that it derives from."
        )


def _check_packages() -> None:
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"to_onnx requires the package {name}: pip install 'mmestim[onnx]'.") from error


def _metadata(estimator: MultimodalClassifier) -> dict[str, str]:
    labels = estimator.classes_.tolist()
    # Dates in nanoseconds become int in the list.
    if estimator.classes_.dtype.kind in "mM" or not all(isinstance(label, str | int | float) for label in labels):
        raise ValueError(
            f"classes_ has labels that a file cannot hold, such as {estimator.classes_[0]!r}. Fit with numbers, "
            "booleans or text."
        )
    feature_names = {name: [*map(str, names)] for name, names in estimator._column_names.items()}
    return {
        "estimator": type(estimator).__name__,
        "classes": json.dumps(labels),
        "feature_names": json.dumps(feature_names),
    }


def _export(network: PortableNetwork, owner: str) -> Any:
    """Return the network as an ONNXProgram of torch, whose inputs have other names than its modalities."""
    n_rows = torch.export.Dim("n_samples")
    shapes = (tuple({0: n_rows} for _ in network.names),)
    try:
        with torch.no_grad(), _silence():
            # Given the network itself, torch.onnx.export would fix the number of rows where it cannot vary.
            program = torch.export.export(network, network.example(2), dynamic_shapes=shapes)
            return torch.onnx.export(program, output_names=[OUTPUT], dynamic_shapes=shapes, dynamo=True, verbose=False)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"the network of {owner} cannot be exported: {reason.rstrip('. ')}. {_REMEDY}") from error


def _name_inputs(model: Any, names: list[str]) -> None:
    """Give the inputs the names of the modalities, and other values of these names new ones; drop notes of torch."""
    values = [*model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        values += node.outputs
        node.metadata_props.clear()  # They quote the source code with its paths.
    taken = {*names, *(value.name for value in values)}
    for value in values:
        if value.name in names:
            value.name = next(name for k in itertools.count() if (name := f"{value.name}_{k}") not in taken)
    for value, name in zip(model.graph.inputs, names, strict=True):
        value.name = name
    for part in [*values, *model.graph.inputs, model.graph]:
        part.metadata_props.clear()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the warnings of torch about its own code, and about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
