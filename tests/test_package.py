"""Imports, docstrings and dependencies of the whole package."""

import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from _generated_pages import MODULES
from numpydoc.validate import validate
from sklearn.utils._testing import assert_docstring_consistency

import mmestim
import mmestim.voice

CLASSIFIERS = [
    mmestim.JointClassifier,
    mmestim.LateFusionClassifier,
    mmestim.ModalityGapClassifier,
    mmestim.UDIClassifier,
]


def test_import_loads_no_heavy_modules():
    heavy = ["matplotlib", "torchaudio", "scipy.signal", "jinja2", "sklearn.cluster", "sklearn.linear_model"]
    code = f"import sys, mmestim; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name in mmestim.__all__ if name != "balancers"])
def test_public_names_are_documented(name):
    accepted = {"ES01", "EX01", "GL01", "RT02", "SA01", "SS05", "SS06"}
    errors = [error for error in validate(f"mmestim.{name}")["errors"] if error[0] not in accepted]
    assert errors == []


@pytest.mark.parametrize("name", mmestim.balancers.__all__)
def test_balancers_are_documented(name):
    accepted = {"ES01", "EX01", "GL01", "RT02", "SA01", "SS05", "SS06"}
    if name in ("FusionHead", "Outputs", "Training"):
        accepted |= {"PR01"}  # Users subclass them or get them from the package.
    errors = [error for error in validate(f"mmestim.balancers.{name}")["errors"] if error[0] not in accepted]
    assert errors == []


@pytest.mark.parametrize("name", [name for name in mmestim.voice.__all__ if callable(getattr(mmestim.voice, name))])
def test_voice_is_documented(name):
    accepted = {"ES01", "EX01", "GL01", "RT02", "SA01", "SS05", "SS06"}
    if is_dataclass(getattr(mmestim.voice, name)):
        accepted |= {"PR01", "PR02"}  # numpydoc does not read the parameters of data classes.
    errors = [error for error in validate(f"mmestim.voice.{name}")["errors"] if error[0] not in accepted]
    assert errors == []


@pytest.mark.parametrize("module", MODULES)
def test_classes_open_with_an_example(module):
    received = {"AudioError", "AudioPool", "Edited", "FrontEnd", "FusionHead", "Outputs", "Skipped", "Training"}
    module = importlib.import_module(module)
    for name in set(module.__all__) - received:
        if inspect.isclass(public := getattr(module, name)):
            paragraphs = inspect.getdoc(public).split("\n\n")
            assert ">>> " in "".join(paragraphs[1:3]), name  # a sentence may introduce it


def test_voice_and_multimodal_do_not_import_each_other():
    for name, other in (("voice", "multimodal"), ("multimodal", "voice")):
        for path in (Path(mmestim.__file__).parent / name).rglob("*.py"):
            assert f".{other}" not in path.read_text(), path


def test_shared_parameters_have_the_same_descriptions():
    shared = set.intersection(*(set(inspect.signature(classifier).parameters) for classifier in CLASSIFIERS))
    assert_docstring_consistency(CLASSIFIERS, include_params=sorted(shared - {"fusion"}))
    late = ["fusion", "ensemble", "store_oof"]
    assert_docstring_consistency([mmestim.LateFusionClassifier, mmestim.UDIClassifier], include_params=late)
    assert_docstring_consistency(CLASSIFIERS, include_attrs=["history_", "n_iter_", "module_", "modalities_"])


def test_multimodal_does_not_import_skorch():
    for name in ("base", "_objectives.guidance", "joint", "late_fusion", "_objectives.mutual_information", "udi"):
        assert "skorch" not in vars(importlib.import_module(f"mmestim.multimodal.{name}"))


def test_the_changelog_has_a_line_for_each_public_name():
    path = Path(__file__).parents[1] / "CHANGELOG.md"
    listed = re.findall(r"^- `(\w+)`: .+$", path.read_text(encoding="utf-8"), re.MULTILINE)
    public = {name for module in MODULES for name in importlib.import_module(module).__all__}
    assert sorted(public) == sorted(name for name in listed if name in public)
