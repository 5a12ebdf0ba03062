"""CREMA-D: actors who say sentences in six emotions."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from sklearn.utils import Bunch

from .listing import OnMissing, Row, files_below, make_listing, not_recognised, open_folder, shortened

_LAYOUT = "the folders AudioWAV and VideoFlash with files such as 1001_DFA_ANG_XX.wav and 1001_DFA_ANG_XX.flv"
_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_NAME = re.compile(rf"(\d{{4}})_([A-Z]{{3}})_({'|'.join(_EMOTIONS)})_(LO|MD|HI|XX)")
_SPLITS = {"train.csv": "train", "val.csv": "valid", "test.csv": "test"}
_DESCR = """CREMA-D: clips of 91 actors who say 12 sentences in six emotions, as sound and video.

Licence: Open Database License 1.0 (contents: Database Contents License 1.0).
Citation: H. Cao et al., "CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset", IEEE Transactions on Affective
Computing 5(4), 2014."""


def load_crema_d(folder: str | os.PathLike[str], *, on_missing: OnMissing = "raise") -> Bunch:
    """List the clips of CREMA-D [1]_ in a folder as their authors distribute them.

    Parameters
    ----------
    folder : str or path-like
        Folder with ``AudioWAV`` (.wav) and ``VideoFlash`` (.flv, or .mp4 of the same names). The authors define no
        split. If ``train.csv`` and ``test.csv`` are in the folder, with lines such as ``1001_DFA_ANG_XX,ANG``, they
        are the split; the papers use such files of their own.
    on_missing : {'raise', 'skip'}, default='raise'
        Treatment of clips that lack one of their files: an error, or a warning and no row.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `frame`, a DataFrame with the columns "audio" and "video" (paths), "label", "actor", "sentence",
        "intensity" (LO, MD, HI or XX) and "clip"; `target`, the labels; `target_names`; `groups`, the actors; `split`
        ("train", "valid" or "test"; empty for clips that no file lists) or None; and `DESCR`.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or files of clips are missing.
    ValueError
        If the folder is in another layout.

    Warns
    -----
    UserWarning
        If names of files are not in the scheme, or clips are in no file of the split.

    See Also
    --------
    mmestim.media.MediaTransformer : Reader of the files.

    References
    ----------
    .. [1] H. Cao et al., "CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset", IEEE Transactions on Affective
       Computing 5(4), 2014, https://github.com/CheyneyComputerScience/CREMA-D.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from mmestim.datasets import load_crema_d
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("AudioWAV/1001_DFA_ANG_XX.wav", "VideoFlash/1001_DFA_ANG_XX.flv"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     clips = load_crema_d(folder)
    >>> clips.target, clips.groups
    (array(['anger'], dtype='<U5'), array(['1001'], dtype='<U4'))
    """
    path = open_folder(folder, ["AudioWAV", "VideoFlash"], _LAYOUT)
    files = {
        "audio": _by_clip(files_below(path / "AudioWAV", [".wav"])),
        "video": _by_clip(files_below(path / "VideoFlash", [".flv", ".mp4"])),
    }
    split = _read_split(path)
    clips = sorted({*files["audio"], *files["video"], *split})
    if not clips:
        raise not_recognised(path, "AudioWAV and VideoFlash have no files", _LAYOUT)
    others = [clip for clip in clips if not _NAME.fullmatch(clip)]
    if len(others) == len(clips):
        raise not_recognised(path, f"no name is like 1001_DFA_ANG_XX, such as {shortened(others)}", _LAYOUT)
    if others:
        warnings.warn(
            f"load_crema_d: {len(others)} clips are left out, whose names are not like 1001_DFA_ANG_XX: "
            f"{shortened(others)}.",
            stacklevel=2,
        )
    rows: list[Row] = []
    for clip, name in ((clip, _NAME.fullmatch(clip)) for clip in clips):
        if name is not None:
            actor, sentence, emotion, intensity = name.groups()
            row = {
                "audio": str(files["audio"].get(clip, path / "AudioWAV" / f"{clip}.wav")),
                "video": str(files["video"].get(clip, path / "VideoFlash" / f"{clip}.flv")),
                "label": _EMOTIONS[emotion],
                "actor": actor,
                "sentence": sentence,
                "intensity": intensity,
                "clip": clip,
            }
            rows.append(row | ({"split": split.get(clip, "")} if split else {}))
    if split and (unlisted := [row["clip"] for row in rows if not row["split"]]):
        warnings.warn(
            f"load_crema_d: {len(unlisted)} clips are in none of {', '.join(_SPLITS)}: {shortened(unlisted)}. Their "
            "split is empty.",
            stacklevel=2,
        )
    return make_listing("load_crema_d", rows, _DESCR, paths=["audio", "video"], groups="actor", on_missing=on_missing)


def _by_clip(files: list[Path]) -> dict[str, Path]:
    return {_clip(file.stem): file for file in files}


def _clip(name: str) -> str:
    """Return a name in the scheme: that of one file ends in _X, and some tables correct it."""
    return f"{name}X" if name.endswith("_X") else name


def _read_split(folder: Path) -> dict[str, str]:
    """Return the part of each clip from the files of a split, or nothing unless there are both train and test."""
    if not all((folder / name).is_file() for name in ("train.csv", "test.csv")):
        return {}
    return {
        _clip(line.split(",")[0].strip()): part
        for name, part in _SPLITS.items()
        if (folder / name).is_file()
        for line in (folder / name).read_text(encoding="utf-8-sig").splitlines()
        if line.strip()
    }
