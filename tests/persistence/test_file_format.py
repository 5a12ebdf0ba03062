"""File format and the description of a file by the command line."""

import functools
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback
from torch import nn

from mmestim import LateFusionClassifier, UDIClassifier, load, save
from mmestim.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


def test_a_file_of_the_first_version_is_loaded(data_of_first_version):
    """Later versions must load this file, which mmestim 0.1.0 wrote with the following code.

    digits = load_digit_views(views=["pixels", "fourier"])
    clf = JointClassifier(
        digits.modalities, balancer=OGM(alpha=0.5), shapes={"pixels": (8, 8)}, embedding_dim=8, max_epochs=10,
        encoder={"pixels": "mlp", "fourier": "linear"}, device="cpu", random_state=0,
        class_weight=dict.fromkeys([f"digit {n}" for n in range(10)], 1.0),
    ).fit(digits.data, np.array([f"digit {n}" for n in digits.target]))
    save(clf, "tests/persistence/data/model.mme")
    rows = np.linspace(0, 0.3, 5 * 98).reshape(5, 98)  # model.json has the predictions for these rows
    """
    expected = json.loads((data_of_first_version / "model.json").read_text())
    clf = load(data_of_first_version / "model.mme", device="cpu")
    rows = np.linspace(0, 0.3, 5 * 98).reshape(5, 98)
    np.testing.assert_allclose(clf.predict_proba(rows), expected["predict_proba"], atol=1e-5)
    assert clf.predict(rows).tolist() == expected["predict"]
    assert clf.balancer.get_params()["alpha"] == 0.5


def test_the_safetensors_library_reads_the_file(fitted, path):
    numpy = pytest.importorskip("safetensors.numpy")
    save(fitted, path)
    tensors = numpy.load_file(path)
    for name, tensor in fitted.module_.state_dict().items():
        assert_array_equal(tensors[f"module.{name}"], tensor.numpy())


class SmallEncoder(nn.Linear):
    """Encoder of a user with a parameter."""

    def __init__(self, input_shape, embedding_dim, scale=1.0):
        super().__init__(input_shape[0], embedding_dim)
        self.scale = scale


def test_info_describes_a_file_without_reading_its_tensors(digits, path, capsys, fast_options):
    X, y, modalities = digits
    encoder = functools.partial(SmallEncoder, scale=2.0)
    labels = np.array(["\x1b[31mred", "blue"])[y % 2]
    callbacks = [Callback()]
    clf = UDIClassifier(modalities, encoder={"pixels": encoder}, callbacks=callbacks, **fast_options).fit(X, labels)
    save(clf, path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x05")
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    title, *sections = (section.splitlines() for section in out.rstrip("\n").split("\n\n"))
    assert title[0].startswith("UDIClassifier in ")
    entries = {
        section[0]: dict(line.split(maxsplit=1) for line in section[1:] if " " in line.strip()) for section in sections
    }
    assert entries["versions it was written with:"]["mmestim"] == "'0.1.0'"
    assert entries["parameters saved as their defaults, by type:"] == {"callbacks": "'list'"}
    assert "anchor_" in entries["fitted attributes:"]
    assert "  encoder\n    pixels  modules['SmallEncoder']\n" in out
    assert "float32 (2, 8)" in entries["tensors (not read):"].values()
    for section in sections:
        top = [line for line in section[1:] if line[2] != " " and " " in line.strip()]
        assert len({len(line) - len(line[2:].split(maxsplit=1)[1]) for line in top}) == 1  # one column of values
    assert "\x1b" not in out
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["info", str(path)]) == 2
    assert main(["info", str(path.with_name("none.mme"))]) == 2
    assert capsys.readouterr().err.count("mmestim: ") == 2


def test_info_writes_to_any_encoding(digits, path, monkeypatch, fast_options):
    X, y, _ = digits
    save(LateFusionClassifier({"é": slice(None)}, **fast_options).fit(X, y), path)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["info", str(path)]) == 0
    assert b"columns.\\xe9" in out.buffer.getvalue()


def test_the_command_line(data_of_first_version):
    run = subprocess.run(
        [sys.executable, "-m", "mmestim", "info", str(data_of_first_version / "model.mme")],
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "OGM(" in run.stdout
    reader, writer = os.pipe()
    os.close(reader)  # As after `| head` has exited.
    run = subprocess.run(
        [sys.executable, "-m", "mmestim", "info", str(data_of_first_version / "model.mme")],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, "")
    with pytest.raises(SystemExit, match="2"):
        main(["open"])
