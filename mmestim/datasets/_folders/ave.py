"""AVE: audio-visual events."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from sklearn.utils import Bunch

from .listing import OnMissing, Row, make_listing, not_recognised, open_folder, shortened

_SPLITS = {"trainSet.txt": "train", "valSet.txt": "valid", "testSet.txt": "test"}
_LAYOUT = f"the folder AVE with videos, Annotations.txt, {', '.join(_SPLITS)}"
_FIELDS = "Category&VideoID&Quality&StartTime&EndTime"
_DESCR = """AVE: videos of ten seconds from AudioSet with one of 28 events that is both seen and heard.

Licence: none is stated; the videos belong to those who uploaded them to YouTube.
Citation: Y. Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018."""


def load_ave(folder: str | os.PathLike[str], *, on_missing: OnMissing = "raise") -> Bunch:
    """List the videos of AVE [1]_ in a folder as its authors distribute it.

    Parameters
    ----------
    folder : str or path-like
        Folder with ``AVE`` (.mp4), ``Annotations.txt``, ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``, whose
        lines are ``Category&VideoID&Quality&StartTime&EndTime``.
    on_missing : {'raise', 'skip'}, default='raise'
        Treatment of events whose video is missing: an error, or a warning and no row.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `frame`, a DataFrame with the columns "audio" and "video" (both the path of the video, whose
        sound the readers of audio read), "label", "clip" (the identifier of the video), "quality", and "start" and
        "end" of the event in seconds; `target`, the labels; `target_names`; `groups`, the identifiers; `split`, the
        official one ("train", "valid" or "test"; empty for events that no file lists); and `DESCR`.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or videos are missing.
    ValueError
        If the folder is in another layout.

    Warns
    -----
    UserWarning
        If events of ``Annotations.txt`` are in no file of the split.

    References
    ----------
    .. [1] Y. Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018,
       https://github.com/YapengTian/AVE-ECCV18.

    Examples
    --------
    >>> from mmestim.datasets import load_ave
    >>> events = load_ave("AVE_Dataset")  # doctest: +SKIP
    >>> train = events.frame[events.split == "train"]  # doctest: +SKIP
    """
    path = open_folder(folder, ["AVE", "Annotations.txt", *_SPLITS], _LAYOUT)
    parts = {line: part for name, part in _SPLITS.items() for line in _read_events(path, name)}
    events = dict.fromkeys([*_read_events(path, "Annotations.txt"), *parts])
    if not events:
        raise not_recognised(path, "Annotations.txt has no events", _LAYOUT)
    rows: list[Row] = []
    for label, clip, quality, start, end in events:
        video = str(path / "AVE" / f"{clip}.mp4")
        row = {"audio": video, "video": video, "label": label, "clip": clip, "quality": quality}
        times = {"start": float(start), "end": float(end)}
        rows.append(row | times | {"split": parts.get((label, clip, quality, start, end), "")})
    if unlisted := [row["clip"] for row in rows if not row["split"]]:
        warnings.warn(
            f"load_ave: {len(unlisted)} events are in none of {', '.join(_SPLITS)}: {shortened(unlisted)}. Their split "
            "is empty.",
            stacklevel=2,
        )
    return make_listing("load_ave", rows, _DESCR, paths=["video"], groups="clip", on_missing=on_missing)


def _read_events(folder: Path, name: str) -> list[tuple[str, ...]]:
    """Return the fields of the lines of a file, without its heading."""
    lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
    events = [tuple(field.strip() for field in line.split("&")) for line in lines if line.strip() not in ("", _FIELDS)]
    if others := [number for number, event in enumerate(events, 1) if len(event) != 5]:
        raise not_recognised(folder, f"event {others[0]} of {name} is not {_FIELDS}", _LAYOUT)
    return events
