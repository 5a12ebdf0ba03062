"""Time and memory of MediaTransformer: reading videos, and training from its cache.

Reading is compared with a plain loop of PyAV that decodes the same videos in the same process and keeps the same
frames. Training from the cache is compared with training from the same arrays in memory. Contenders take turns,
starting with a different one in each round; the table has medians of the rounds and the median of the ratios. Memory is
the peak of RssAnon, the memory of the process except for mapped files, while one epoch is trained from a cache of --gib
GiB.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

import mmestim
from memory import private_mib, watch
from mmestim import LateFusionClassifier
from mmestim._data.sources import StoredArray
from mmestim.media import MediaTransformer, VideoFrames
from mmestim.media._cache import MappedRows

SIZE, N_FRAMES = (112, 112), 3


def write_videos(folder: Path, n_videos: int) -> list[str]:
    """Write videos of two seconds, 320 x 240 pixels and 25 frames a second; return their paths."""
    paths = []
    noise = np.random.default_rng(0).integers(0, 60, (50, 240, 320, 3)).astype(np.uint8)
    for number in range(n_videos):
        paths.append(str(folder / f"{number}.mp4"))
        with av.open(paths[-1], "w") as file:
            video = file.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt, video.bit_rate = 320, 240, "yuv420p", 1_000_000
            for frame in noise:
                picture = frame + np.uint8(number % 190)
                picture[:16, :16] = 30 * (number // 190)  # Equal files would be read once.
                file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(video.encode(None))
    return paths


def plain_loop(paths: list[str]) -> list[np.ndarray]:
    """Decode all frames by PyAV, and keep those in the middle of thirds."""
    blocks = []
    for path in paths:
        with av.open(path) as file:
            stream = file.streams.video[0]
            stream.thread_type = "NONE"
            wanted = [int(stream.frames * (k + 0.5) / N_FRAMES) for k in range(N_FRAMES)]
            frames = []
            for number, frame in enumerate(file.decode(stream)):
                if number in wanted:
                    small = frame.reformat(SIZE[1], SIZE[0], "rgb24", interpolation="AREA")
                    frames.append(np.moveaxis(small.to_ndarray(), -1, 0))
                if number == wanted[-1]:
                    break
            blocks.append(np.stack(frames))
    return blocks


def take_turns(contenders: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round."""
    names, seconds = list(contenders), {name: [] for name in contenders}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            contenders[name](number)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def rows_of(seconds: dict[str, list[float]]) -> list[str]:
    """Return lines of the table; the first contender is the reference of the ratios."""
    reference = next(iter(seconds.values()))
    lines = []
    for name, times in seconds.items():
        ratio = statistics.median(own / other for own, other in zip(times, reference, strict=True))
        lines.append(f"| {name} | {statistics.median(times):.2f} | {ratio:.2f} |")
    return lines


def compare_reading(folder: Path, n_videos: int, rounds: int) -> list[str]:
    """Return the lines of the table of reading."""
    paths = write_videos(folder, n_videos)
    readers = {"frames": VideoFrames(n_frames=N_FRAMES, size=SIZE)}

    def read(number: int) -> object:
        return MediaTransformer(readers, cache=folder / f"cache{number}").fit_transform(paths)

    def read_again(number: int) -> object:
        return MediaTransformer(readers, cache=folder / "known").fit_transform(paths)

    expected = np.stack(plain_loop(paths))
    np.testing.assert_array_equal(np.asarray(read_again(0)["frames"]), expected)
    return rows_of(
        take_turns(
            {
                "plain loop of PyAV": lambda number: plain_loop(paths),
                "MediaTransformer, new cache": read,
                "MediaTransformer, known files": read_again,
            },
            rounds,
        )
    )


def compare_epochs(folder: Path, n_rows: int, n_epochs: int, rounds: int) -> list[str]:
    """Return the lines of the table of training."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (n_rows, N_FRAMES, *SIZE)).astype(np.uint8)
    y = np.arange(n_rows) % 2
    frames.tofile(folder / "rows.bin")
    stored = StoredArray(MappedRows(str(folder / "rows.bin"), frames.dtype, frames.shape))
    clf = LateFusionClassifier(
        max_epochs=n_epochs, cv=None, early_stopping=False, max_memory=0, device="cpu", random_state=0
    )
    return rows_of(
        take_turns(
            {
                "arrays in memory": lambda number: clf.fit({"frames": frames}, y),
                "cache": lambda number: clf.fit({"frames": stored}, y),
            },
            rounds,
        )
    )


def memory_of_epoch(folder: Path, gib: float) -> str:
    """Return a sentence about the memory of training from a sparse cache."""
    n_rows = int(gib * 2**30 / (N_FRAMES * SIZE[0] * SIZE[1]))
    shape = (n_rows, N_FRAMES, *SIZE)
    with open(folder / "sparse.bin", "wb") as file:
        file.truncate(int(np.prod(shape)))
    stored = StoredArray(MappedRows(str(folder / "sparse.bin"), np.dtype(np.uint8), shape))
    clf = LateFusionClassifier(encoder="linear", max_epochs=1, cv=None, early_stopping=False, device="cpu")
    before = private_mib()
    peak, seconds = watch(lambda: clf.fit({"frames": stored}, np.arange(n_rows) % 2))
    return (
        f"One epoch from a cache of {gib:g} GiB ({n_rows} rows): {peak:.0f} MiB of private memory at the peak, "
        f"{before:.0f} MiB before, {seconds:.0f} s."
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000, help="videos to read (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1000, help="rows to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of a fit (default: %(default)s)")
    parser.add_argument("--gib", type=float, default=20, help="size of the sparse cache (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the report")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        reading = compare_reading(Path(folder), options.videos, options.rounds)
        training = compare_epochs(Path(folder), options.rows, options.epochs, options.rounds)
        memory = memory_of_epoch(Path(folder), options.gib)
    head = "| contender | seconds | ratio |\n|---|---|---|"
    text = f"""# Media

`python benchmarks/media.py`: mmestim {mmestim.__version__}, PyAV {av.__version__}, torch {torch.__version__}, Python
{platform.python_version()}, one process and thread. Medians of {options.rounds} rounds in turn.

## Reading

{options.videos} videos of two seconds, 320 x 240 pixels, 25 frames a second; {N_FRAMES} frames of each, at
{SIZE[0]} x {SIZE[1]} pixels.

{head}
{chr(10).join(reading)}

## Training from the cache

{options.epochs} epochs on {options.rows} rows of {N_FRAMES} x {SIZE[0]} x {SIZE[1]} uint8 by `encoder="auto"`, with
`max_memory=0`, so that both are read batch by batch.

{head}
{chr(10).join(training)}

## Memory

{memory}
"""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "media.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
