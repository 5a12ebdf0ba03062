"""Data sets of papers.py: their folders, inputs and rows to train on and to test on."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from mmestim import SliceDict, datasets
from mmestim.media import MediaError, MediaTransformer, Reader, Sample, Spectrogram, VideoFrames

# 159 samples from frame to frame give the 299 and 1004 frames of the paper for 3 and 10 seconds.
SAMPLE_RATE, HOP = 16_000, 159
TEST_FRACTION = 0.1  # 744 of 7442 clips of CREMA-D


class FlowFrames(Reader):
    """Optical flow at the middle of equal parts of a video, from two folders of images.

    Values are pairs of folders, of horizontal and of vertical flow. Arrays are of shape (frames, 2, height, width).
    """

    def __init__(self, column: str | None = None, *, n_frames: int = 3, size: tuple[int, int] = (224, 224)) -> None:
        self.column = column
        self.n_frames = n_frames
        self.size = size

    @property
    def reads_files(self) -> bool:
        return False  # The cache finds folders by their paths.

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.n_frames, 2, *self.size

    @property
    def sample_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def read(self, value: Any) -> Sample:
        array = np.empty(self.sample_shape, np.uint8)
        for axis, folder in enumerate(value):
            images = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".jpg", ".png"))
            if not images:
                raise MediaError(str(folder), "contains no images.")
            for number in range(self.n_frames):
                path = images[int((number + 0.5) * len(images) / self.n_frames)]
                try:
                    with Image.open(path) as image:
                        array[number, axis] = image.convert("L").resize(self.size[::-1], Image.Resampling.BOX)
                except OSError as error:
                    raise MediaError(str(path), f"cannot be decoded: {error}.") from error
        return Sample(array)


@dataclass(frozen=True)
class Protocol:
    """Settings of the papers for a data set."""

    title: str
    load: Callable[..., Any]
    n_frames: int  # of each video
    n_times: int | None = None  # frames of the spectrogram; None: optical flow instead of sound
    lr: float = 1e-2
    note: str = ""


PROTOCOLS = {
    "crema-d": Protocol("CREMA-D", datasets.load_crema_d, 2, 299),
    "kinetics-sounds": Protocol("Kinetics-Sounds", datasets.load_kinetics_sounds, 3, 1004),
    "ucf101": Protocol("UCF101", datasets.load_ucf101, 3, lr=1e-3),
    "ave": Protocol(
        "AVE",
        datasets.load_ave,
        4,
        1004,
        note="Neither paper states these inputs: 4 frames are those of PMR, the spectrogram that of Kinetics-Sounds.",
    ),
}


@dataclass(frozen=True)
class PaperData:
    """Data set with its inputs, of which none has been kept in memory."""

    X: Any
    y: np.ndarray
    is_test: np.ndarray
    groups: np.ndarray | None  # of the inner split; None: rows are split singly
    note: str
    digest: str  # of the rows, their split and the readers


def open_data(args: argparse.Namespace) -> PaperData:
    """List and read the files, or take what the cache has of them."""
    protocol = PROTOCOLS[args.data_set]
    bunch = protocol.load(args.folder, on_missing="skip" if args.skip_missing else "raise")
    frame = bunch.frame.copy()
    if protocol.n_times is None and "flow_u" not in frame:
        raise ValueError(
            f"--folder {args.folder} has no optical flow, the second modality of the protocol. Compute it as images in "
            "u/<clip> and v/<clip>, such as those of tvl1_flow, in a subfolder."
        )
    if "flow_u" in frame:
        frame["flow"] = list(zip(frame["flow_u"], frame["flow_v"], strict=True))
    is_test, note = split_rows(bunch, args)
    readers = paper_readers(protocol, args)
    blocks, is_absent = {}, []
    for name, reader in readers.items():
        media = MediaTransformer(
            {name: reader}, cache=args.cache, n_jobs=args.read_jobs, on_error="absent", verbose=True
        )
        blocks[name] = media.fit_transform(frame)[name]
        failed = {error.item for error in media.skipped_}
        is_absent.append(np.array([str(value) in failed for value in frame[reader.column]]))
    has_any = ~np.all(is_absent, axis=0)
    if not has_any.all():
        note += f" {(~has_any).sum()} rows without any readable file are left out."
    rows = np.flatnonzero(has_any)
    facts = [args.data_set, frame["clip"].iloc[rows].tolist(), bunch.target[rows].tolist(), is_test[rows].tolist()]
    digest = hashlib.blake2b(json.dumps([*facts, readers], default=repr).encode(), digest_size=8).hexdigest()
    groups = bunch.groups[rows] if args.by_group else None
    return PaperData(SliceDict(**blocks)[rows], bunch.target[rows], is_test[rows], groups, note, digest)


def paper_readers(protocol: Protocol, args: argparse.Namespace) -> dict[str, Reader]:
    """Return the reader of each modality, in the order of the paper."""
    n_frames, size = args.frames or protocol.n_frames, (args.size, args.size)
    if protocol.n_times is None:
        frames = VideoFrames("video", n_frames=n_frames, size=size)
        return {"rgb": frames, "flow": FlowFrames("flow", n_frames=n_frames, size=size)}
    duration = ((args.times or protocol.n_times) - 1) * HOP / SAMPLE_RATE
    return {
        "audio": Spectrogram("audio", sample_rate=SAMPLE_RATE, hop_length=HOP, duration=duration),
        "video": VideoFrames("video", n_frames=n_frames, size=size),
    }


def split_rows(bunch: Any, args: argparse.Namespace) -> tuple[np.ndarray, str]:
    """Return the mask of the test rows, and a sentence about the split."""
    if bunch.split is not None:
        if args.by_group:
            raise ValueError("--by-group is for data sets without a split, and this folder has one. Omit it.")
        is_test = bunch.split == "test"
        if not 0 < is_test.sum() < len(is_test):
            raise ValueError(f"{is_test.sum()} of {len(is_test)} rows are test rows. Pass a complete folder.")
        note = "The folder's own split."
        if (bunch.split == "valid").any():
            note += " Its validation rows are among the training rows, of which a tenth chooses the epoch."
        return is_test, note
    rows = np.arange(len(bunch.target))
    if args.by_group:
        n_folds = min(round(1 / TEST_FRACTION), len(np.unique(bunch.groups)))
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
        test = next(folds.split(rows, bunch.target, bunch.groups))[1]
        note = "Test rows are of groups that train nothing, such as actors."
    else:
        size = max(round(TEST_FRACTION * len(rows)), len(bunch.target_names))
        test = train_test_split(rows, test_size=size, stratify=bunch.target, random_state=0)[1]
        note = (
            "A tenth of the rows are test rows, drawn at random by class, so groups such as actors are in both parts."
        )
    return np.isin(rows, test), note
