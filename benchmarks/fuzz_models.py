"""Fuzz test of model files: each damaged or forged file must raise one ValueError or load a model that predicts.

The script saves small models, derives --files mutants from them with --seed, loads each one, and prints the outcomes by
kind of mutation. Damaged files have changed bytes; forged files have changed contents with valid checksums, which
anyone can compute. A damaged file may load only as the same model. A forged file may load as another model, for
example with other weights, unless the forgery contradicts itself. The exit status is 1 if any file behaves otherwise.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import mmestim
from mmestim.balancers import MLA, OGM
from mmestim.datasets import load_digit_views

JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    10**9,
    10**18,
    10**30,
    -0.5,
    1e308,
    "",
    "x",
    "\ud800",
    [],
    [[]],
    {},
    {"float": "nan"},
    {"float": "x"},
    {"tuple": []},
    {"tuple": 3},
    {"dict": []},
    {"dict": [[[], 1]]},
    {"slice": [0, 10**18, None]},
    {"nothing": 1},
    {"tuple": [], "dict": []},
    {"module": "os.system"},
    {"torch.optim": "lr_scheduler"},
    {"torch.optim": "LBFGS"},
    {"device": "cuda:99"},
    {"device": "nowhere"},
    {"array": {"dtype": "U1000000000", "shape": [1], "values": ["a"]}},
    {"array": {"dtype": "int64", "shape": [10**9], "values": [1]}},
    {"array": {"dtype": "O", "shape": [1], "values": [1]}},
    {"balancer": {"class": "OGM", "own": False, "parameters": {"alpha": "x", "beta": 1}}},
    {"balancer": {"class": "Balancer", "own": False, "parameters": {}}},
    {"balancer": {"class": "os", "own": True}},
]


class Model(NamedTuple):
    """Valid file with the predictions of its model."""

    blob: bytes
    predict: Callable[[Any], np.ndarray]
    expected: np.ndarray


class Parts:
    """Parts of a file, from which it can be rebuilt with valid checksums."""

    def __init__(self, blob: bytes) -> None:
        length = int.from_bytes(blob[:8], "little")
        self.table = json.loads(blob[8 : 8 + length])
        self.metadata = self.table.pop("__metadata__")
        self.metadata.pop("header_digest")
        self.fields = json.loads(self.metadata["fields"])
        self.data = bytearray(blob[8 + length :])

    def bytes_of(self, name: str) -> slice:
        """Return the bytes of the data that belong to a tensor."""
        return slice(*self.table[name]["data_offsets"])

    def lay_out(self, blocks: dict[str, bytes]) -> None:
        """Replace the data and update its offsets in the table."""
        self.data = bytearray()
        for name, block in blocks.items():
            self.table[name]["data_offsets"] = [len(self.data), len(self.data) + len(block)]
            self.data += block

    def blob(self) -> bytes:
        """Return the file as `mmestim.save` would write it."""
        metadata = self.metadata | {"fields": dumps(self.fields), "data_digest": digest(self.data)}
        return forge(metadata, self.table, self.data)


def forge(metadata: dict[str, Any], table: dict[str, Any], data: bytes) -> bytes:
    """Return a file whose header has a valid checksum."""
    header_digest = digest(dumps({"__metadata__": metadata, **table}).encode())
    header = dumps({"__metadata__": metadata | {"header_digest": header_digest}, **table}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


# Mutants of bytes ----------------------------------------------------------------------------------


def flip_bits(blob: bytes, rng: np.random.Generator) -> bytes:
    mutant = bytearray(blob)
    # Damage only the header, which is the smaller part, in half of the cases.
    end = len(blob) if rng.random() < 0.5 else 8 + int.from_bytes(blob[:8], "little")
    for place in rng.integers(end, size=rng.integers(1, 4)):
        mutant[place] ^= 1 << rng.integers(8)
    return bytes(mutant)


def truncate(blob: bytes, rng: np.random.Generator) -> bytes:
    return blob[: rng.integers(len(blob))]


def insert(blob: bytes, rng: np.random.Generator) -> bytes:
    place = rng.integers(len(blob) + 1)
    return blob[:place] + rng.bytes(rng.integers(1, 64)) + blob[place:]


def delete(blob: bytes, rng: np.random.Generator) -> bytes:
    place = rng.integers(len(blob))
    return blob[:place] + blob[place + rng.integers(1, 64) :]


def move(blob: bytes, rng: np.random.Generator) -> bytes:
    first, second, third = np.sort(rng.integers(len(blob), size=3))
    return blob[:first] + blob[second:third] + blob[first:second] + blob[third:]


def change_length(blob: bytes, rng: np.random.Generator) -> bytes:
    length = int.from_bytes(blob[:8], "little")
    wrong_length = rng.choice([0, 1, 7, length - 8, length + 8, len(blob), 2**20, 2**22 + 8, 2**31, 2**62])
    return int(wrong_length).to_bytes(8, "little") + blob[8:]


# Forged files --------------------------------------------------------------------------------------


def forge_parameter(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    name = rng.choice(list(parts.fields["parameters"]))
    parts.fields["parameters"][name] = copy.deepcopy(JUNK[rng.integers(len(JUNK))])
    return parts.blob()


def forge_fact(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    facts = parts.fields["facts"]
    facts[rng.choice([*facts, "more"])] = copy.deepcopy(JUNK[rng.integers(len(JUNK))])
    return parts.blob()


def forge_inside(blob: bytes, rng: np.random.Generator) -> bytes:
    """Replace or delete a random value at any depth of the fields."""
    parts = Parts(blob)
    items = [*nested_items(parts.fields)]
    container, key = items[rng.integers(len(items))]
    if rng.random() < 0.5:
        del container[key]
    else:
        container[key] = copy.deepcopy(JUNK[rng.integers(len(JUNK))])
    return parts.blob()


def nested_items(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from nested_items(value[key])


def forge_weights(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    place = parts.bytes_of(rng.choice(list(parts.table)))
    parts.data[place] = rng.bytes(place.stop - place.start)
    return parts.blob()


# Contradictions, none of which may be loaded -------------------------------------------------------


def contradict_shape(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    entry = parts.table[rng.choice(list(parts.table))]
    axes = entry["shape"] or [1]
    wrong_shapes = (
        [*axes[:-1], axes[-1] + 1],
        [n * 10**6 for n in axes],
        [-n for n in axes],
        [1, *axes],
        [2**60] * 16,
        [0.5],
        "x",
    )
    entry["shape"] = wrong_shapes[rng.integers(len(wrong_shapes))]
    return parts.blob()


def contradict_offsets(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    entry = parts.table[rng.choice(list(parts.table))]
    start, stop = entry["data_offsets"]
    wrong_offsets = ([start + 4, stop + 4], [0, stop - start], [stop, start], [start, 2**60], [-1, 3], [start], "x")
    entry["data_offsets"] = next(
        offsets for offsets in rng.permutation(np.array(wrong_offsets, dtype=object)) if offsets != [start, stop]
    )
    return parts.blob()


def contradict_dtype(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    entry = parts.table[rng.choice(list(parts.table))]
    entry["dtype"] = rng.choice(
        [d for d in ("F32", "I32", "F16", "BOOL", "U8", "Q9", "", "F8_E4M3") if d != entry["dtype"]]
    )
    return parts.blob()


def contradict_tensors(blob: bytes, rng: np.random.Generator) -> bytes:
    """Remove a tensor with its data, add one, or rename one."""
    parts = Parts(blob)
    blocks = {name: bytes(parts.data[parts.bytes_of(name)]) for name in parts.table}
    name = rng.choice(list(blocks))
    kind = rng.integers(3)
    if kind != 1:
        entry, block = parts.table.pop(name), blocks.pop(name)
    if kind != 0:
        parts.table[f"{name}x"] = entry if kind == 2 else {"dtype": "U8", "shape": [4]}
        blocks[f"{name}x"] = block if kind == 2 else b"more"
    parts.lay_out(blocks)
    return parts.blob()


def contradict_class(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    names = [
        "JointClassifier",
        "LateFusionClassifier",
        "ModalityGapAnalyzer",
        "UDIClassifier",
        "Pipeline",
        "os.system",
        3,
    ]
    parts.fields["class"] = names[rng.choice([i for i, name in enumerate(names) if name != parts.fields["class"]])]
    return parts.blob()


def contradict_header(blob: bytes, rng: np.random.Generator) -> bytes:
    parts = Parts(blob)
    text, table = dumps(parts.fields), dumps(parts.table)[1:]
    metadata = parts.metadata
    mutants = {
        "newer": lambda: forge(metadata | {"format": "2"}, parts.table, parts.data),
        "older": lambda: forge(metadata | {"format": "-1"}, parts.table, parts.data),
        "not a number": lambda: forge(metadata | {"format": "one"}, parts.table, parts.data),
        "no fields": lambda: forge(metadata | {"fields": "[]"}, parts.table, parts.data),
        "repeated key": lambda: forge(
            metadata | {"fields": text[:-1] + ',"class":"UDIClassifier"}'}, parts.table, parts.data
        ),
        "not finite": lambda: forge(
            metadata | {"fields": text.replace('"facts":{', '"facts":{"n":NaN,')}, parts.table, parts.data
        ),
        "deep": lambda: forge(metadata | {"fields": "[" * 200_000}, parts.table, parts.data),
        "deep header": lambda: frame(b'{"a":' * 200_000, parts.data),
        "wide": lambda: frame(b'{"a":[' + b"[]," * 1_390_000 + b"[]]}", parts.data),
        "no metadata": lambda: frame(b"{" + table.encode(), parts.data),
        "many objects": lambda: frame(
            b'{"__metadata__":{"mmestim":"0","format":"1","data_digest":"","fields":"{}"},'
            + b",".join(b'"%d":{}' % i for i in range(300_000))
            + b"}",
            b"",
        ),
        "many numbers": lambda: frame(
            b'{"__metadata__":{"mmestim":"0","format":"1","data_digest":"","fields":"{}"},'
            + b",".join(b'"%d":0' % i for i in range(350_000))
            + b"}",
            b"",
        ),
        "huge": lambda: frame(b'{"' + b" " * 2**22 + b'":1}', b""),
    }
    return mutants[rng.choice(list(mutants))]()


def frame(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


DAMAGE = (flip_bits, truncate, insert, delete, move, change_length)
FORGERIES = (forge_parameter, forge_fact, forge_inside, forge_weights)
CONTRADICTIONS = (
    contradict_shape,
    contradict_offsets,
    contradict_dtype,
    contradict_tensors,
    contradict_class,
    contradict_header,
)


# Run -------------------------------------------------------------------------------------------


def make_models(folder: Path) -> list[Model]:
    """Return small models of every class, some with shapes, column names or balancers."""
    digits = load_digit_views(views=["pixels", "fourier"])
    X, y, path = digits.data[:200], digits.target[:200], folder / "valid.mme"
    fast: dict[str, Any] = {"max_epochs": 1, "embedding_dim": 4, "random_state": 0, "device": "cpu"}
    fitted = [
        mmestim.JointClassifier(
            digits.modalities, balancer=OGM(0.3), shapes={"pixels": (8, 8)}, encoder={"fourier": "linear"}, **fast
        ).fit(X, y),
        mmestim.JointClassifier(digits.modalities, balancer=MLA(weights={"pixels": 1.0, "fourier": 2.0}), **fast).fit(
            X, y
        ),
        mmestim.UDIClassifier(digits.modalities, class_weight=dict.fromkeys(range(10), 1.0), **fast).fit(X, y),
        mmestim.LateFusionClassifier(digits.modalities, **fast).fit(X, np.array([f"digit {n}" for n in y])),
        mmestim.ModalityGapClassifier(digits.modalities, **fast).fit(X, y > 4),
    ]
    models = []
    for clf in fitted:
        mmestim.save(clf, path)
        models.append(Model(path.read_bytes(), lambda model: model.predict_proba(X), clf.predict_proba(X)))
    scores = mmestim.gap_scores(fitted[0], X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analyzer = mmestim.ModalityGapAnalyzer().fit(scores)
    mmestim.save(analyzer, path)
    models.append(Model(path.read_bytes(), lambda model: model.transform(scores), analyzer.transform(scores)))
    return models


def outcome(model: Model, kind: Callable[..., bytes], path: Path) -> str:
    """Return the outcome of loading the mutant at `path`; all but "refused", "same" and "another" are faults."""
    try:
        loaded = mmestim.load(path, device="cpu")
    except ValueError as error:
        return "refused" if str(path) in str(error) else f"refused without its path: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    try:
        with np.errstate(all="ignore"):
            predictions = model.predict(loaded)
    except ValueError as error:  # A forged file may be a model of other data.
        return "another" if kind in FORGERIES else f"loaded, then ValueError: {error}"
    except BaseException as error:
        return f"loaded, then {type(error).__name__}: {error}"
    if predictions.shape == model.expected.shape and np.array_equal(predictions, model.expected):
        return "same" if kind not in CONTRADICTIONS else "a contradiction loaded"
    return "another" if kind in FORGERIES else "another model from damaged bytes"


def fuzz(n_files: int, seed: int, folder: Path) -> tuple[list[tuple[str, str, float]], float]:
    """Return the kind, outcome and seconds of each mutant, and the growth of the peak memory in MiB."""
    models, rng, path = make_models(folder), np.random.default_rng(seed), folder / "mutant.mme"
    kinds, results = (*DAMAGE, *FORGERIES, *CONTRADICTIONS), []
    blob = Parts(models[0].blob).blob()
    assert blob == models[0].blob, "this script does not encode files as mmestim.save does"
    initial_peak = peak_mib()
    for number in range(n_files):
        kind, model = kinds[number % len(kinds)], models[rng.integers(len(models))]
        path.write_bytes(kind(model.blob, rng))
        start = time.perf_counter()
        result = outcome(model, kind, path)
        results.append((kind.__name__, result, time.perf_counter() - start))
    return results, peak_mib() - initial_peak


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="number of mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutants (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results, growth = fuzz(options.files, options.seed, Path(folder))
    allowed = ("refused", "same", "another")
    print("| mutation | files | refused | same model | another model | faults | slowest (ms) |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in [*dict.fromkeys(kind for kind, _, _ in results), "all"]:
        rows = [row for row in results if name in (row[0], "all")]
        counts = Counter(result for _, result, _ in rows)
        numbers = [counts[result] for result in allowed]
        slowest = 1000 * max(seconds for *_, seconds in rows)
        print("|", " | ".join(map(str, [name, len(rows), *numbers, len(rows) - sum(numbers), round(slowest)])), "|")
    print(f"\nThe peak memory grew by {growth:.0f} MiB.")
    faults = [(kind, result) for kind, result, _ in results if result not in allowed]
    for kind, result in faults[:20]:
        print(f"{kind}: {result}", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
