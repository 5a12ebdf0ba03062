"""UCF101: actions in videos, with optical flow that was computed before."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from sklearn.utils import Bunch

from ..._utils.validation import check_choice
from .listing import OnMissing, Row, files_below, make_listing, not_recognised, open_folder

_LAYOUT = (
    "the folders UCF-101 with ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi and others, and ucfTrainTestlist with "
    "trainlist01.txt and testlist01.txt"
)
_NAME = re.compile(r"v_(\w+)_(g\d\d)_c\d\d")
_DESCR = """UCF101: videos from YouTube of 101 human actions, in 25 groups per class.

Licence: none is stated; the videos belong to those who uploaded them to YouTube.
Citation: K. Soomro, A. R. Zamir and M. Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild",
CRCV-TR-12-01, 2012, arXiv:1212.0402."""


def load_ucf101(
    folder: str | os.PathLike[str], *, fold: Literal[1, 2, 3] = 1, on_missing: OnMissing = "raise"
) -> Bunch:
    """List the videos of UCF101 [1]_, and their optical flow, in a folder as it is distributed.

    Parameters
    ----------
    folder : str or path-like
        Folder with ``UCF-101`` and ``ucfTrainTestlist``. Optical flow that was computed before is recognised in a
        subfolder such as ``tvl1_flow``, with images in ``u/v_ApplyEyeMakeup_g01_c01`` and in ``v/``.
    fold : {1, 2, 3}, default=1
        Official split to read.
    on_missing : {'raise', 'skip'}, default='raise'
        Treatment of videos that are listed but missing, or lack their optical flow: an error, or a warning and no row.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `frame`, a DataFrame with the columns "video" (path), "label", "clip", "group" and, if there is
        optical flow, "flow_u" and "flow_v" (folders of images); `target`, the labels; `target_names`; `groups`, which
        share their background and people; `split`, the official one ("train" or "test"); and `DESCR`.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or files are missing.
    ValueError
        If the folder is in another layout.

    References
    ----------
    .. [1] K. Soomro, A. R. Zamir and M. Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild",
       2012, arXiv:1212.0402.

    Examples
    --------
    >>> from mmestim.datasets import load_ucf101
    >>> videos = load_ucf101("ucf101")  # doctest: +SKIP
    >>> (videos.split == "train").sum()  # doctest: +SKIP
    9537
    """
    check_choice("fold", fold, (1, 2, 3))
    lists = {part: f"ucfTrainTestlist/{part}list{fold:02}.txt" for part in ("train", "test")}
    path = open_folder(folder, ["UCF-101", *lists.values()], _LAYOUT)
    flow = _find_flow(path)
    # Names are compared in lower case, because one class is written HandStandPushups and HandstandPushups.
    videos = {file.stem.lower(): str(file) for file in files_below(path / "UCF-101", [".avi", ".mp4"])}
    rows: list[Row] = []
    for part, file in lists.items():
        for line in filter(str.strip, (path / file).read_text(encoding="utf-8-sig").splitlines()):
            label, _, rest = line.partition("/")
            clip = Path(rest.split()[0]).stem if rest else ""
            name = _NAME.fullmatch(clip)
            if name is None:
                raise not_recognised(path, f"{file} has the line {line!r}", _LAYOUT)
            video = videos.get(clip.lower(), str(path / "UCF-101" / label / f"{clip}.avi"))
            row = {"video": video, "label": label, "clip": clip, "group": f"{label}_{name[2]}", "split": part}
            rows.append(row | {axis: found.get(clip.lower(), f"{axis}/{clip}") for axis, found in flow.items()})
    if not rows:
        raise not_recognised(path, "its lists are empty", _LAYOUT)
    return make_listing("load_ucf101", rows, _DESCR, paths=["video", *flow], groups="group", on_missing=on_missing)


def _find_flow(folder: Path) -> dict[str, dict[str, str]]:
    """Return the folders of optical flow by column and clip; an empty dict if there are none."""
    parents = [entry.parent for pattern in ("u", "*/u", "*/*/u") for entry in sorted(folder.glob(pattern))]
    flow = next((parent for parent in parents if (parent / "v").is_dir()), None)
    if flow is None:
        return {}
    return {
        f"flow_{axis}": {entry.name.lower(): str(entry) for entry in (flow / axis).iterdir() if entry.is_dir()}
        for axis in "uv"
    }
