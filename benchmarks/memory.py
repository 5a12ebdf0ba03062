"""Private memory of a fit and a prediction on a memory map that is larger than the allowed memory.

The script creates a sparse map of --gib GiB, fits two modalities for one epoch, and prints the peak of RssAnon, the
memory of the process except for mapped files. It requires /proc of Linux.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmestim import LateFusionClassifier

N_FEATURES = 65_536


def private_mib() -> float:
    """Return the current private memory of this process in MiB."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def watch(job: Callable[[], object]) -> tuple[float, float]:
    """Return the peak private memory in MiB while `job` runs, and its duration in seconds."""
    samples, is_done = [private_mib()], threading.Event()

    def sample():
        while not is_done.wait(0.002):
            samples.append(private_mib())

    thread = threading.Thread(target=sample)
    thread.start()
    start = time.perf_counter()
    try:
        job()
    finally:
        seconds = time.perf_counter() - start
        is_done.set()
        thread.join()
    return max(samples), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4, help="size of the map (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="dtype of the map (default: %(default)s)")
    options = parser.parse_args()
    n_rows = int(options.gib * 2**30 / np.dtype(options.dtype).itemsize / N_FEATURES)
    y = np.arange(n_rows) % 2
    half = N_FEATURES // 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X"
        X = np.memmap(path, dtype=options.dtype, mode="w+", shape=(n_rows, N_FEATURES))
        X[1::2, ::half] = 1  # The rest of the file stays sparse.
        X.flush()
        X = np.memmap(path, dtype=options.dtype, mode="r", shape=X.shape)
        clf = LateFusionClassifier(
            {"first": slice(0, half), "second": slice(half, None)},
            encoder="linear",
            embedding_dim=4,
            max_epochs=1,
            early_stopping=False,
            device="cpu",
            random_state=0,
        )
        print(f"{n_rows} x {N_FEATURES} {options.dtype}; before: {private_mib():.0f} MiB")
        for name, job in (("fit", lambda: clf.fit(X, y)), ("predict", lambda: clf.predict(X))):
            peak, seconds = watch(job)
            print(f"{name}: peak {peak:.0f} MiB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
