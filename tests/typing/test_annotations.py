"""Annotations of parameters and fitted attributes: they hold for the values, and agree with the docstrings."""

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from numpydoc.docscrape import NumpyDocString
from sklearn.datasets import make_classification

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapAnalyzer, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import OGM
from mmestim.voice import VoiceEditDetector

PACKAGES = ["", ".balancers", ".encoders", ".voice", ".voice.formats", ".voice.localization", ".voice.metrics"]
MODULES = [importlib.import_module(f"mmestim{name}") for name in PACKAGES]
PUBLIC = {name: getattr(module, name) for module in MODULES for name in module.__all__}
DOCUMENTED = {name: value for name, value in PUBLIC.items() if callable(value)}
FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
TINY = {"window": 0.35, "model": "features", "n_clips": 40, "random_state": 0}


def holds(value, hint):
    """Return whether a value has the type of an annotation."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is Any:
        return True
    if origin in (Union, UnionType):
        return any(holds(value, arg) for arg in args)
    if origin is np.ndarray or origin is NDArray:  # numpy 2.5 does not replace the alias by its meaning.
        (kind,) = get_args(args[1]) if origin is np.ndarray else args
        return isinstance(value, np.ndarray) and (kind is Any or np.issubdtype(value.dtype, kind))
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        return False
    if issubclass(origin, Mapping) and args:
        return all(holds(key, args[0]) and holds(item, args[1]) for key, item in value.items())
    if issubclass(origin, Sequence) and args:
        return all(holds(item, args[0]) for item in value)
    return True


def fitted(names):
    """Return the names of public fitted attributes."""
    return {name for name in names if re.fullmatch(r"[a-z]\w*_", name)}


@pytest.fixture(scope="module")
def fit_twice():
    """Function that fits two estimators of a class, which have all of its attributes between them."""
    X, y = make_classification(60, 6, n_classes=3, n_informative=4, random_state=0)
    table, groups = pd.DataFrame(X, columns=list("abcdef")), {"audio": list("abc"), "text": list("def")}
    blocks, names = {"audio": X[:, :3], "text": X[:, 3:]}, y.astype(str)
    scores = pd.DataFrame(np.random.default_rng(0).uniform(size=(60, 2)), columns=["audio", "text"])
    clips = np.random.default_rng(0).normal(scale=0.1, size=(8, 8000))

    def fit(cls):
        if cls is ModalityGapAnalyzer:
            return cls().fit(scores), cls(signed=True).fit(scores.to_numpy())
        if cls is VoiceEditDetector:
            return cls(["low_pass"], **TINY).fit(clips), cls(**TINY).fit(list(clips), ["a", "b"] * 4)
        options = {"balancer": OGM()} if cls is JointClassifier else {}
        options |= {"store_oof": True} if hasattr(cls(), "store_oof") else {}
        return cls(groups, cv=2, **options, **FAST).fit(table, y), cls(cv=None, **FAST).fit(blocks, names)

    return fit


ESTIMATORS = [JointClassifier, LateFusionClassifier, ModalityGapAnalyzer, ModalityGapClassifier, UDIClassifier]


@pytest.mark.parametrize("cls", [*ESTIMATORS, VoiceEditDetector])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of so little data
def test_fitted_attributes_have_their_types(fit_twice, cls):
    hints, values = get_type_hints(cls), [vars(estimator) for estimator in fit_twice(cls)]
    wrong = [name for attributes in values for name in fitted(attributes) if not holds(attributes[name], hints[name])]
    assert wrong == []
    assert fitted(values[0]) | fitted(values[1]) == fitted(hints)


@pytest.mark.parametrize("cls", [*ESTIMATORS, VoiceEditDetector])
def test_fitted_attributes_are_documented_and_have_no_value_before_fit(cls):
    declared = fitted(get_type_hints(cls))
    assert not any(hasattr(cls(), name) for name in declared)
    documented = fitted(attribute.name for attribute in NumpyDocString(inspect.getdoc(cls))["Attributes"])
    assert declared == documented - fitted(vars(cls))  # without properties


def choices(hint):
    """Return the texts that an annotation lists."""
    if get_origin(hint) in (Union, UnionType):
        return set().union(*map(choices, get_args(hint)))
    return set(get_args(hint)) if get_origin(hint) is Literal else set()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstrings_and_types_list_the_same_choices(name):
    hidden = dict.fromkeys(("Axes", "EditSegment", "FitContext", "VoiceEditDetector"), Any)  # for type checkers only
    value = DOCUMENTED[name]
    hints = get_type_hints(value.__init__ if isinstance(value, type) else value, localns=hidden)
    for parameter in NumpyDocString(inspect.getdoc(value))["Parameters"]:
        documented = set(re.findall(r"""['"]([^'"]*)['"]""", re.sub(r", default=.*", "", parameter.type)))
        for part in parameter.name.split(", "):
            assert documented == choices(hints.get(part.lstrip("*"))), parameter
