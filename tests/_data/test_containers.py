"""The check at the door: containers that are accepted, searched over and refused."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import coo_array, coo_matrix, csr_array, dok_matrix
from sklearn.model_selection import GridSearchCV, cross_val_predict
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from mmestim import (
    JointClassifier,
    LateFusionClassifier,
    SliceDict,
    diagnose,
    gap_scores,
    modality_contributions,
    stack_modalities,
)
from mmestim._data.containers import take_rows

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
A = (RNG.normal(size=(60, 4)) + 2 * np.eye(4)[Y]).astype(np.float32)
V = (RNG.normal(size=(60, 2, 3)) + 2 * np.eye(3)[Y][:, None]).astype(np.float32)
V_FRAME = pd.DataFrame(V.reshape(60, 6), columns=[*"abcdef"])
TARGETS = torch.from_numpy(Y)
FAST = {"max_epochs": 1, "embedding_dim": 4, "optimizer": "adamw", "lr": 0.05, "device": "cpu", "random_state": 0}
SHAPES = {"x1": (2, 3)}


class Items(Dataset):
    """Map-style Dataset whose items have the given form, which counts how often each is read."""

    def __init__(self, form):
        self.form, self.n_reads = form, 0

    def __len__(self):
        return 60

    def __getitem__(self, row):
        self.n_reads += 1
        return self.form(A[row], torch.from_numpy(V[row]), int(Y[row]))


class Rows:
    """Sequence of samples that is no Dataset, as other libraries have."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


CONTAINERS = {
    "list": [A, V],
    "tuple": (A, V),
    "list of tensors": [torch.from_numpy(A).requires_grad_(), torch.nn.Parameter(torch.from_numpy(V))],
    "list of a frame and lists": [pd.DataFrame(A), np.asarray(V)],
    "dict": {"x0": A, "x1": V},
    "dict of flat": {"x0": A, "x1": V_FRAME},
    "dict of sparse": {"x0": csr_array(A), "x1": coo_matrix(V.reshape(60, 6))},
    "dict of sparse of three axes": {"x0": coo_array(A), "x1": coo_array(V)},
    "dict of Datasets": {"x0": TensorDataset(torch.from_numpy(A)), "x1": Items(lambda a, v, y: (v, y))},
    "dict of columns of arrays": {"x0": pd.Series([*A]), "x1": pd.DataFrame({"image": [*V]})["image"]},
    "dict of lists of tensors": {"x0": [*torch.from_numpy(A).requires_grad_()], "x1": [*torch.from_numpy(V)]},
    "SliceDict": SliceDict(x0=A, x1=V),
    "SliceDict of frames": SliceDict(x0=pd.DataFrame(A, index=np.arange(60)[::-1]), x1=V_FRAME),
    "SliceDict of sparse and tensors": SliceDict(x0=csr_array(A), x1=torch.from_numpy(V)),
    "SliceDict of masked": SliceDict(x0=np.ma.masked_array(A), x1=np.ma.masked_array(V)),
    "TensorDataset": TensorDataset(torch.from_numpy(A), torch.from_numpy(V)),
    "TensorDataset with targets": TensorDataset(torch.from_numpy(A), torch.from_numpy(V), TARGETS),
    "Dataset": Items(lambda a, v, y: (a, v)),
    "Dataset with targets": Items(lambda a, v, y: (a, v, y)),
    "Dataset of nested tuples": Items(lambda a, v, y: ((a, v), torch.tensor(y))),
    "Dataset of lists": Items(lambda a, v, y: [a.tolist(), v.tolist(), y]),
    "Dataset of dicts": Items(lambda a, v, y: {"x0": a, "x1": v, "label": y, "file": "a.wav"}),
    "Dataset of dicts and targets": Items(lambda a, v, y: ({"x1": v, "x0": a}, y)),
    "Subset": Subset(TensorDataset(torch.from_numpy(A), torch.from_numpy(V)), range(60)),
    "ConcatDataset": ConcatDataset(
        [TensorDataset(torch.from_numpy(A[part]), torch.from_numpy(V[part])) for part in (slice(9), slice(9, 60))]
    ),
    "list of samples": [(a, v) for a, v in zip(A, V, strict=True)],
    "other sequence": Rows([{"x0": a.tolist(), "x1": v.tolist(), "label": 1} for a, v in zip(A, V, strict=True)]),
    "list of dicts": [{"x0": a, "x1": v} for a, v in zip(A, V, strict=True)],
}
SEARCHABLE = [name for name in CONTAINERS if not name.startswith(("dict", "list of t", "list of a", "list of f"))]
SEARCHABLE = [name for name in SEARCHABLE if name not in ("list", "tuple", "Dataset of lists")]
STACKED, SLICES, _ = stack_modalities(x0=A, x1=V)


def model(**parameters):
    return LateFusionClassifier(**{"shapes": SHAPES} | FAST | parameters)


def search(model):
    return GridSearchCV(model, {"lr": [1e-4, 0.05]}, cv=2, error_score="raise")


@pytest.fixture(scope="module")
def plain():
    """Classifier that is fitted to one array, and its expected results."""
    return LateFusionClassifier(SLICES, shapes=SHAPES, **FAST).fit(STACKED, Y)


@pytest.fixture(scope="module")
def expected(plain):
    return plain.predict_proba(STACKED)


@pytest.fixture(scope="module")
def expected_analyses(plain):
    scores = gap_scores(plain, STACKED, Y), gap_scores(plain, STACKED, Y, cv=2)
    return *scores, modality_contributions(plain, STACKED, Y).contributions


@pytest.fixture(scope="module")
def expected_search(plain):
    return search(plain).fit(STACKED, Y)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_results(container, expected, expected_analyses):
    X = CONTAINERS[container]
    clf = model().fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    np.testing.assert_array_equal(clf.predict_proba(CONTAINERS["dict"]), expected)
    order = [list(clf.modalities_).index(name) for name in ("x0", "x1")]
    analyses = gap_scores(clf, X, Y), gap_scores(clf, X, Y, cv=2), modality_contributions(clf, X, Y).contributions
    for result, expected_result in zip(analyses, expected_analyses, strict=True):
        np.testing.assert_array_equal(result[:, order], expected_result)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        gap_scores(clf, X, Y[:50])


@pytest.mark.parametrize("container", SEARCHABLE)
def test_searches_split_every_container_that_has_rows(container, expected_search):
    X = CONTAINERS[container]
    result = search(model()).fit(X, Y)
    expected_scores = expected_search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(result.cv_results_["mean_test_score"], expected_scores)
    np.testing.assert_array_equal(result.predict(X), expected_search.predict(STACKED))


@pytest.mark.parametrize("container", ["list", "TensorDataset with targets", "Dataset of nested tuples"])
def test_diagnosis_accepts_containers(container):
    clf = JointClassifier(shapes=SHAPES, cv=None, **FAST)
    diagnosis = diagnose(clf, CONTAINERS[container], Y, cv=2)
    assert diagnosis.modalities == ["x0", "x1"]
    assert diagnosis.scores.shape == (60, 2)


@pytest.mark.parametrize("kind", [csr_array, coo_matrix, dok_matrix])
def test_sparse_matrices_are_accepted_as_x(kind, expected):
    X = kind(STACKED)
    clf = LateFusionClassifier(SLICES, shapes=SHAPES, **FAST).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    np.testing.assert_array_equal(cross_val_predict(clf, X.tocsr(), Y, cv=2), cross_val_predict(clf, STACKED, Y, cv=2))


def test_stacking_keeps_sparse_blocks_sparse(expected):
    X, modalities, shapes = stack_modalities(x0=A, x1=csr_array(V.reshape(60, 6)))
    assert (X.format, shapes) == ("csr", {})
    np.testing.assert_array_equal(X.toarray(), STACKED)
    clf = LateFusionClassifier(modalities, shapes=SHAPES, **FAST).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_items_of_a_dataset_are_read_once_per_batch_for_all_modalities():
    X = Items(lambda a, v, y: (a, v, y))
    clf = model().fit(X, Y)
    assert X.n_reads <= 2 * 60 + 3  # The first item gives names and shapes, then come offsets and all rows.
    X.n_reads = 0
    clf.predict(X)
    assert X.n_reads <= 60 + 3


@pytest.mark.parametrize(
    "X, name",
    [
        (TensorDataset(torch.from_numpy(A), torch.from_numpy(Y).reshape(-1, 1)), "x1"),
        (Items(lambda a, v, y: (a, np.array([y]))), "x1"),
        (Items(lambda a, v, y: {"audio": a, "label": np.array([y])}), "label"),
        ({"audio": A, "label": Y[:, None]}, "label"),
    ],
    ids=["tensors", "tuples", "dicts", "blocks"],
)
def test_targets_among_the_blocks_are_reported(X, name):
    with pytest.warns(UserWarning, match=f"'{name}' equals the targets y.*Leave it out"):
        model(shapes=None).fit(X, Y)


def test_none_in_a_sample_marks_an_absent_modality():
    absent = V.copy()
    absent[::4] = np.nan
    samples = [(a, None if row % 4 == 0 else v) for row, (a, v) in enumerate(zip(A, V, strict=True))]
    clf = model().fit(samples, Y)
    np.testing.assert_array_equal(clf.predict_proba(samples), model().fit([A, absent], Y).predict_proba([A, absent]))


def test_bfloat16_and_gradients_are_accepted_in_every_place():
    tensor = torch.from_numpy(A).bfloat16().requires_grad_()
    image = torch.from_numpy(V).bfloat16()
    rounded = [tensor.detach().float().numpy(), image.float().numpy()]
    expected = model().fit(rounded, Y).predict_proba(rounded)
    for X in (
        {"x0": tensor, "x1": image},
        [tensor, image],
        {"x0": [*tensor], "x1": [*image]},
        TensorDataset(tensor, image),
        [*zip(tensor, image, strict=True)],
    ):
        np.testing.assert_array_equal(model().fit(X, Y).predict_proba(X), expected)
    flat = torch.cat([tensor, image.flatten(1)], dim=1)
    clf = LateFusionClassifier(SLICES, shapes=SHAPES, **FAST).fit(flat, Y)
    np.testing.assert_array_equal(clf.predict_proba(flat), expected)
    np.testing.assert_array_equal(stack_modalities(x0=tensor, x1=image)[0], flat.detach().float().numpy())


# Rows and blocks -----------------------------------------------------------------------------------


def test_a_list_of_rows_is_one_array():
    for X in ([[1, 2], [3, 4]], ([1.0, 2.0], [3.0, 4.0]), [np.array([1, 2]), np.array([3, 4])], [*torch.eye(2)]):
        clf = JointClassifier(early_stopping=False, **FAST).fit(X, ["a", "b"])
        assert (list(clf.modalities_), clf.n_features_in_) == (["x"], 2)


def test_slice_dict_has_the_rows_of_its_blocks():
    X = SliceDict(x0=pd.DataFrame(A, columns=[3, 2, 1, 0]), x1=V, x2=csr_array(A), x3=torch.from_numpy(A))
    assert (len(X), X.shape) == (60, (60,))
    rows = np.array([5, 2, 40])
    for part in (X[rows], X[rows, ...], X[rows.tolist()], X[np.isin(np.arange(60), rows)][[1, 0, 2]]):
        assert type(part) is SliceDict
        assert len(part) == 3
        np.testing.assert_array_equal(part["x0"].to_numpy(), A[rows])
        np.testing.assert_array_equal(part["x1"], V[rows])
        np.testing.assert_array_equal(part["x2"].toarray(), A[rows])
        np.testing.assert_array_equal(part["x3"].numpy(), A[rows])
    assert len(X[3:5]) == 2
    assert list(X.copy()) == list(pickle.loads(pickle.dumps(X))) == ["x0", "x1", "x2", "x3"]
    with pytest.raises(TypeError, match=r"index 3: use \[3:4\]"):
        X[3]
    with pytest.raises(ValueError, match=r"differ in length: \{'x0': 60, 'x1': 5\}"):
        SliceDict(x0=A, x1=V[:5])


def test_rows_of_a_dataset_are_taken_lazily():
    X = Items(lambda a, v, y: (a, v))
    clf = model().fit(X, Y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[60, 59\]"):
        gap_scores(clf, X, Y[1:])
    assert take_rows(np.arange(4), np.array([2])).tolist() == [2]


# Refusals ------------------------------------------------------------------------------------------


class Stream(IterableDataset):
    """Dataset without row numbers."""

    def __iter__(self):
        return iter(A)


WAYS_OUT = r"dict or SliceDict.*stack_modalities"
FILES = rf"np\.load.*read_csv.*soundfile.*PIL.*{WAYS_OUT}"
REFUSED = {
    "path": ("X.npy", FILES),
    "Path": (Path("X.npy"), FILES),
    "bytes": (b"X.npy", FILES),
    "list of paths": ([Path("a.wav")] * 60, FILES),
    "list of strings": (["a.wav"] * 60, rf"'a.wav'.*{FILES}"),
    "strings": ([["a", "b"]] * 60, rf"'a'.*numeric.*{WAYS_OUT}"),
    "array of strings": (np.array([["a", "b"]] * 60), rf"'a'.*{WAYS_OUT}"),
    "strings in a frame": (pd.DataFrame({"t": ["a"] * 60, "n": Y}), rf"'a' in column 't'.*{WAYS_OUT}"),
    "categories in a frame": (pd.DataFrame({"t": pd.Categorical(["a"] * 60), "n": Y}), r"'a' in column 't'"),
    "arrays in a frame": (pd.DataFrame({"image": [*V], "n": Y}), rf"column 'image' of X holds arrays.*{WAYS_OUT}"),
    "objects of arrays": (np.array([[None, A[0]]] * 60, dtype=object), rf"X holds arrays.*{WAYS_OUT}"),
    "ragged": ([[1.0, 2.0], [3.0]] * 30, rf"different shapes.*pad or crop.*{WAYS_OUT}"),
    "ragged arrays": ([np.ones(2), np.ones(3)] * 30, rf"different shapes.*{WAYS_OUT}"),
    "ragged tensors": ([torch.ones(2), torch.ones(3)] * 30, rf"different shapes.*{WAYS_OUT}"),
    "list of images": ([*V], rf"list of 60 arrays.*np\.stack.*{WAYS_OUT}"),
    "blocks and a vector": ([A, Y], rf"element 1 of X has fewer than 2 axes.*{WAYS_OUT}"),
    "DataLoader": (DataLoader(TensorDataset(torch.ones(60, 2))), rf"a DataLoader yields.*map-style.*{WAYS_OUT}"),
    "IterableDataset": (Stream(), rf"a Stream yields.*{WAYS_OUT}"),
    "generator": ((row for row in A), rf"a generator has no rows.*{WAYS_OUT}"),
    "values of a dict": ({"a": A}.values(), rf"a dict_values has no rows.*{WAYS_OUT}"),
    "sparse tensor": (torch.from_numpy(A).to_sparse(), rf"sparse or nested tensor.*to_dense.*{WAYS_OUT}"),
    "block of a path": ({"audio": "a.npy"}, rf"'audio': 'a.npy'.*{FILES}"),
    "block of paths": ({"audio": [["a.wav"]] * 60}, rf"'audio':.*{FILES}"),
    "block of ragged rows": ({"audio": pd.Series([A[0], A[0, :2]] * 30)}, rf"'audio':.*different shapes.*{WAYS_OUT}"),
    "block of a DataLoader": (
        {"audio": DataLoader(TensorDataset(torch.ones(60, 2)))},
        rf"'audio': a DataLoader.*{WAYS_OUT}",
    ),
    "block of a Dataset of two": (
        {"audio": Items(lambda a, v, y: (a, v))},
        "'audio': this Dataset has 2 arrays.*as X itself",
    ),
    "vector in a TensorDataset": (
        TensorDataset(torch.from_numpy(A), torch.ones(60)),
        r"tensor 1 .*shape \(60,\).*reshape\(-1, 1\)",
    ),
    "number in a Dataset": (Items(lambda a, v, y: (a, 0.5)), "'x1' is a single number per sample.*length 1"),
    "ragged Dataset": (Items(lambda a, v, y: (a[: 2 + y], v)), r"'x0' has shape \(3,\) in sample 1, expected \(2,\)"),
    "modality that no sample has": ([(a, None) for a in A], "'x1' is None in every sample"),
    "array of images": (V.reshape(60, 1, -1, 1), r"one array of shape \(60, 1, \d+, 1\).*dict.*stack_modalities"),
    "empty Dataset": (Subset(TensorDataset(torch.ones(3, 2)), []), "no samples"),
}


@pytest.mark.parametrize("container", REFUSED)
def test_refusals_name_the_way_out(container):
    X, message = REFUSED[container]
    with pytest.raises((TypeError, ValueError), match=f"(?s){message}"):
        model(shapes=None).fit(X, Y)
