"""Kinetics-Sounds: classes of Kinetics that are both seen and heard."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Literal

from sklearn.utils import Bunch

from ..._utils.validation import check_choice
from .listing import OnMissing, Row, files_below, make_listing, not_recognised, open_folder, shortened

_LAYOUT = (
    "csv files of Kinetics with the columns label, youtube_id, time_start, time_end and split, and clips with names "
    "such as -3Mwkq-7TV4_000002_000012.mp4 in any subfolders"
)
_VIDEOS = [".mp4", ".mkv", ".webm", ".avi"]
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}
_INSTRUMENTS = (
    "accordion",
    "bagpipes",
    "bass guitar",
    "clarinet",
    "drums",
    "guitar",
    "harmonica",
    "keyboard",
    "organ",
    "piano",
    "saxophone",
    "trombone",
    "trumpet",
    "violin",
    "xylophone",
)
# The classes that Kinetics-400 has, with their names in the early release of Kinetics where these differ.
_CLASSES = {
    "blowing nose": "",
    "blowing out candles": "blowing out",
    "bowling": "",
    "chopping wood": "",
    "dribbling basketball": "dribbling ball",
    "laughing": "",
    "mowing lawn": "mowing the lawn by pushing lawnmower",
    **{f"playing {instrument}": "" for instrument in _INSTRUMENTS},
    "ripping paper": "",
    "shoveling snow": "",
    "shuffling cards": "",
    "singing": "",
    "stomping grapes": "stomping",
    "tap dancing": "",
    "tapping guitar": "",
    "tapping pen": "",
    "tickling": "",
}
# Classes of the early release that Kinetics-400 has no longer.
_EARLY_CLASSES = ("fingerpicking", "patting", "typing")
_SPLITS = {"train": "train", "val": "valid", "validate": "valid", "validation": "valid", "test": "test"}
_DESCR = """Kinetics-Sounds: clips of ten seconds from Kinetics, of 31 or 34 actions that are both seen and heard.

Licence: CC BY 4.0 for the annotations; the videos belong to those who uploaded them to YouTube.
Citations: W. Kay et al., "The Kinetics Human Action Video Dataset", arXiv:1705.06950, 2017.
R. Arandjelovic and A. Zisserman, "Look, Listen and Learn", ICCV 2017 (the choice of the classes)."""


def load_kinetics_sounds(
    folder: str | os.PathLike[str], *, n_classes: Literal[31, 34] = 31, on_missing: OnMissing = "raise"
) -> Bunch:
    """List the clips of Kinetics-Sounds [1]_ in a folder of Kinetics [2]_.

    Parameters
    ----------
    folder : str or path-like
        Folder with the csv files of Kinetics (``train.csv``, ``val.csv`` and ``test.csv``, at any depth) and its clips,
        which are found by names such as ``-3Mwkq-7TV4_000002_000012.mp4`` in any subfolders.
    n_classes : {31, 34}, default=31
        The 31 classes of Kinetics-400, or also the three that only its early release has.
    on_missing : {'raise', 'skip'}, default='raise'
        Treatment of clips that are listed but missing: an error, or a warning and no row. Many videos are no longer at
        YouTube, so most copies of the data set are incomplete.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `frame`, a DataFrame with the columns "audio" and "video" (both the path of the clip, whose sound
        the readers of audio read), "label", "clip" (the identifier of the video), and "start" and "end" in seconds;
        `target`, the labels; `target_names`; `groups`, the identifiers; `split`, the official one of Kinetics
        ("train", "valid" or "test"); and `DESCR`.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or clips are missing.
    ValueError
        If the folder is in another layout.

    References
    ----------
    .. [1] R. Arandjelovic and A. Zisserman, "Look, Listen and Learn", ICCV 2017, arXiv:1705.08168.
    .. [2] W. Kay et al., "The Kinetics Human Action Video Dataset", 2017, arXiv:1705.06950.

    Examples
    --------
    >>> from mmestim.datasets import load_kinetics_sounds
    >>> clips = load_kinetics_sounds("kinetics400", on_missing="skip")  # doctest: +SKIP
    """
    check_choice("n_classes", n_classes, (31, 34))
    path = open_folder(folder, [], _LAYOUT)
    names = {early or name: name for name, early in _CLASSES.items()} | {name: name for name in _CLASSES}
    if n_classes == 34:
        names |= {name: name for name in _EARLY_CLASSES}
    clips = {file.stem: str(file) for file in files_below(path, _VIDEOS)}
    rows: list[Row] = []
    tables = [table for table in files_below(path, [".csv"]) if _COLUMNS <= set(_header(table))]
    for table in tables:
        with open(table, encoding="utf-8-sig", newline="") as lines:
            for line in csv.DictReader(lines):
                label = names.get(line["label"].replace("_", " ").strip())
                if label is not None:
                    rows.append(_row(path, table, line, label, clips))
    if not tables:
        raise not_recognised(path, "it has no csv file with these columns", _LAYOUT)
    if not rows:
        found = shortened([str(table.relative_to(path)) for table in tables])
        raise not_recognised(path, f"no line of {found} has a class of Kinetics-Sounds", _LAYOUT)
    rows = list({(row["clip"], row["start"], row["label"]): row for row in rows}.values())
    return make_listing("load_kinetics_sounds", rows, _DESCR, paths=["video"], groups="clip", on_missing=on_missing)


def _header(table: Path) -> list[str]:
    with open(table, encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines), [])


def _row(folder: Path, table: Path, line: dict[str, str], label: str, clips: dict[str, str]) -> Row:
    """Return the row of a line, whose split is in a column or else in the name of the file."""
    clip, start, end = line["youtube_id"], float(line["time_start"]), float(line["time_end"])
    part = (line.get("split") or table.stem.replace("-", "_").split("_")[-1]).strip()
    if part not in _SPLITS:
        raise not_recognised(folder, f"{table.name} has the split {part!r}, none of {', '.join(_SPLITS)}", _LAYOUT)
    name = f"{clip}_{start:06.0f}_{end:06.0f}"
    video = clips.get(name) or clips.get(clip) or str(folder / f"{name}.mp4")
    times = {"start": start, "end": end}
    return {"audio": video, "video": video, "label": label, "clip": clip} | times | {"split": _SPLITS[part]}
