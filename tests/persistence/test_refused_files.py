"""Files that cannot be loaded."""

import os
import pickle
import traceback

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from mmestim import LateFusionClassifier, load, save

pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


def test_mutants_are_refused_or_predict(fuzz_models, tmp_path):
    results, growth = fuzz_models.fuzz(100, 1, tmp_path)
    outcomes = [outcome for _, outcome, _ in results]
    assert set(outcomes) <= {"refused", "same", "another"}
    assert outcomes.count("refused") > 80
    assert growth < 300


def with_facts(**facts):
    return lambda parts: parts.fields["facts"].update(facts)


def with_parameters(**parameters):
    return lambda parts: parts.fields["parameters"].update(parameters)


def with_column(value):
    def change(parts):
        column_bytes = parts.bytes_of("columns.pixels")
        parts.data[column_bytes.start : column_bytes.start + 8] = value.to_bytes(8, "little", signed=True)

    return change


WIDE_TEXT_ARRAY = {"array": {"dtype": "U16777216", "shape": [1], "values": ["a"]}}


def with_invalid_boolean(parts):
    parts.data[parts.bytes_of("module.branches.0.encoder.standardize.is_fitted")] = b"\x07"


def with_classes(*values):
    return with_facts(classes_={"array": {"dtype": "int64", "shape": [len(values)], "values": list(values)}})


@pytest.mark.parametrize(
    "change, message",
    [
        (with_parameters(embedding_dim=10**9), "its tensors do not match its parameters"),
        (with_parameters(embedding_dim=10**18), "size"),
        (with_parameters(embedding_dim={"float": "nan"}), "embedding_dim"),
        (with_parameters(unimodal_weight=1.0), "its tensors do not match its parameters"),
        (with_parameters(trust_me=True), "trust_me"),
        (with_parameters(class_weight=[WIDE_TEXT_ARRAY] * 20), "text arrays have 335544320 characters"),
        (
            with_parameters(class_weight={"array": {"dtype": "O", "shape": [9], "values": [WIDE_TEXT_ARRAY] * 9}}),
            "text arrays",
        ),
        (with_parameters(class_weight={"dict": [[{"tuple": [1]}, 1.0]]}), "neither text nor a number"),
        (with_parameters(checkpoint="elsewhere"), r"sets \['checkpoint'\]"),
        (with_parameters(encoder={"module": "os.system"}), "modules"),
        (with_parameters(modalities={"dict": [["pixels", {"slice": [0, 10**18, None]}]]}), "past the last column"),
        (with_parameters(shapes={"dict": [["pixels", {"tuple": [8, 8]}]]}), "parameter shapes"),
        (with_column(98), "do not partition the columns"),
        (with_column(-1), "do not partition the columns"),
        (with_column(2**62), "do not partition the columns"),
        (with_invalid_boolean, "neither 0 nor 1"),
        (with_classes(*range(9)), "its tensors do not match its parameters"),
        (with_classes(0, 1, 2, 3, 4, 5, 6, 7, 8, 8), "occurs twice"),
        (with_classes(9, 8, 7, 6, 5, 4, 3, 2, 1, 0), "not sorted"),
        (with_facts(n_features_in_=97), "n_features_in_=97"),
        (with_facts(modalities_=["pixels", "pixels"]), "twice"),
        (with_facts(modalities_=["pixels"]), "n_features_in_"),
        (with_facts(feature_names_in_=["a"]), "feature_names_in_"),
        (with_facts(predict="print"), "predict"),
        (lambda parts: parts.fields.update({"class": "os.system"}), "is none of"),
        (lambda parts: parts.fields.update({"class": "UDIClassifier"}), "UDIClassifier"),
    ],
)
def test_forged_files_are_refused_despite_valid_checksums(fitted, path, change, message, forge):
    save(fitted, path)
    path.write_bytes(forge(path.read_bytes(), change))
    with pytest.raises(ValueError, match=rf"model\.mme' cannot be loaded: .*{message}"):
        load(path, device="cpu")


def with_offset(value):
    def change(parts):
        offset_bytes = parts.bytes_of("offsets.x")
        parts.data[offset_bytes.start : offset_bytes.start + 8] = np.float64(value).tobytes()

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (with_offset(np.nan), "offsets are not finite"),
        (with_offset(-np.inf), "offsets are not finite"),
        (with_facts(channels_last=["y"]), "channels_last names a modality that has no images"),
        (with_facts(channels_last=["x", "x"]), "twice"),
        (with_facts(channels_last=7), "not a list of names"),
        (with_facts(shapes_={"dict": [["x", {"tuple": [48]}]]}), "channels_last names a modality that has no images"),
        (with_facts(shapes_={"dict": [["x", {"tuple": [3, 4, 4]}]]}), "its tensors do not match its parameters"),
    ],
)
def test_forged_offsets_and_layouts_are_refused(path, change, message, forge, fast_options):
    X = 1e9 + np.arange(20.0)[:, None, None, None] + np.zeros((20, 8, 6, 1))
    clf = LateFusionClassifier(**fast_options).fit({"x": X}, np.arange(20) % 2)
    save(clf, path)
    assert_array_equal(load(path, device="cpu").predict_proba({"x": X}), clf.predict_proba({"x": X}))
    path.write_bytes(forge(path.read_bytes(), change))
    with pytest.raises(ValueError, match=rf"model\.mme' cannot be loaded: .*{message}"):
        load(path, device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        with_parameters(device={"device": "\x1b[31mEVIL\x07\n"}),
        with_parameters(balancer={"balancer": {"class": "OGM", "own": False, "parameters": {"\x1b[31m": 1}}}),
        with_parameters(**{f"parameter {n}": 0 for n in range(20_000)}),
    ],
    ids=["device", "name", "long"],
)
def test_errors_are_short_and_contain_no_terminal_escapes(fitted, path, change, forge):
    save(fitted, path)
    path.write_bytes(forge(path.read_bytes(), change))
    with pytest.raises(ValueError, match="cannot be loaded") as caught:
        load(path)
    traceback_text = "".join(traceback.format_exception(caught.value))
    assert not set(traceback_text) & {"\x1b", "\x07"}
    assert len(str(caught.value)) < 1500


def test_defaults_of_torch_do_not_matter(fitted, digits, path):
    X, *_ = digits
    expected = fitted.predict_proba(X)
    save(fitted, path)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        loaded = load(path, device="cpu")
        save(fitted, path)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert_array_equal(loaded.predict_proba(X), expected)


def test_modules_are_a_dict(fitted, path):
    save(fitted, path)
    for wrong in (nn.Identity, [nn.Identity]):
        with pytest.raises(TypeError, match=r"modules=.* must be a dict"):
            load(path, modules=wrong)


def test_other_files_are_refused_with_the_reason(fitted, path, fuzz_models):
    save(fitted, path)
    valid = path.read_bytes()
    flipped = bytearray(valid)
    flipped[-5] ^= 4
    other_header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    '
    for content, message in [
        (b"", "not an mmestim model"),
        (pickle.dumps(fitted), "looks like a pickle"),
        (len(other_header).to_bytes(8, "little") + other_header + bytes(4), "not an mmestim model"),
        (valid[:-1], "is truncated"),
        (valid[:100], "is truncated"),
        (valid + b"x", "is damaged"),
        (bytes(flipped), "data is damaged"),
        (valid.replace(b'"n_iter_no_change\\":20', b'"n_iter_no_change\\":30'), "header is damaged"),
        ((2**40).to_bytes(8, "little") + valid[8:], "are allowed"),
        (valid.replace(b'"format":"1"', b'"format":"7"'), r"written by mmestim '.*' in format 7.*up to 1: upgrade"),
        (fuzz_models.frame(b'{"__metadata__":{"mmestim":"9.1","format":"3"}}', b""), "mmestim '9.1' in format 3"),
        (
            fuzz_models.frame(
                b'{"__metadata__":{"mmestim":"0","format":"1","data_digest":"","fields":"{}"},'
                + b",".join(b'"%d":{}' % i for i in range(20_000))
                + b"}",
                b"",
            ),
            "20000 tensors",
        ),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"model\.mme' cannot be loaded: .*{message}"):
            load(path)
    torch.save(fitted.module_.state_dict(), path)
    with pytest.raises(ValueError, match="zip archive"):
        load(path)


def test_missing_files_folders_and_pipes_are_refused(path):
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(OSError, match=r"directory|denied"):
        load(path.parent)
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(ValueError, match="not a regular file"):
            load(path)
    with pytest.raises(ValueError, match="device='abacus'"):
        load(path, device="abacus")
