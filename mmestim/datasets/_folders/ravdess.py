"""RAVDESS: actors who speak and sing in eight emotions."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from sklearn.utils import Bunch

from ..._utils.validation import check_choice
from .listing import OnMissing, Row, files_below, make_listing, not_recognised, open_folder

_LAYOUT = "files with names of seven numbers, such as 03-01-06-01-02-01-12.wav, in any subfolders"
_NAME = re.compile(r"(0[1-3])((?:-0[12]-0[1-8])-0[12]-0[12]-0[12]-(?:0[1-9]|1\d|2[0-4]))")
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_CHANNELS = {"speech": "01", "song": "02"}
_DESCR = """RAVDESS: clips of 24 actors who speak and sing two sentences in eight emotions, as sound and video.

Licence: CC BY-NC-SA 4.0.
Citation: S. R. Livingstone and F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)",
PLoS ONE 13(5): e0196391, 2018."""


def load_ravdess(
    folder: str | os.PathLike[str],
    *,
    channel: Literal["speech", "song"] | None = "speech",
    on_missing: OnMissing = "raise",
) -> Bunch:
    """List the clips of RAVDESS [1]_ in a folder, by the codes of their names.

    Parameters
    ----------
    folder : str or path-like
        Folder with the unpacked archives, in any subfolders. Sound is read from the files with sound alone (03), or
        from those with sound and pictures (01) if there are none; pictures from files 01, or else 02.
    channel : {'speech', 'song'} or None, default='speech'
        Clips to list; `None` lists both.
    on_missing : {'raise', 'skip'}, default='raise'
        Treatment of takes that lack their sound or their pictures, if others have them: an error, or a warning and no
        row.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `frame`, a DataFrame with the columns "audio" and "video" (paths; each only if there are such
        files), "label", "actor", "sex", "channel", "intensity" ("normal" or "strong"), "statement", "repetition" and
        "clip"; `target`, the labels; `target_names`; `groups`, the actors; `split`, None; and `DESCR`.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or files of takes are missing.
    ValueError
        If the folder is in another layout.

    References
    ----------
    .. [1] S. R. Livingstone and F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song
       (RAVDESS)", PLoS ONE 13(5): e0196391, 2018, https://doi.org/10.5281/zenodo.1188976.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from mmestim.datasets import load_ravdess
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "03-01-06-01-02-01-12.wav").touch()
    ...     takes = load_ravdess(folder)
    >>> takes.frame[["label", "sex", "actor"]].values.tolist()
    [['fearful', 'female', '12']]
    """
    check_choice("channel", channel, (*_CHANNELS, None))
    path = open_folder(folder, [], _LAYOUT)
    files: dict[str, dict[str, str]] = {"01": {}, "02": {}, "03": {}}  # by modality and the rest of the name
    for file in files_below(path, [".wav", ".mp4"]):
        if name := _NAME.fullmatch(file.stem):
            files[name[1]].setdefault(name[2].strip("-"), str(file))
    takes = sorted({take for found in files.values() for take in found})
    takes = [take for take in takes if channel is None or take.startswith(_CHANNELS[channel])]
    if not takes:
        raise not_recognised(path, f"it has no such files of channel={channel!r}", _LAYOUT)
    sound = files["03"] or files["01"]
    pictures = files["02"] | files["01"]
    rows = [_row(path, take, sound, pictures) for take in takes]
    paths = [column for column in ("audio", "video") if column in rows[0]]
    return make_listing("load_ravdess", rows, _DESCR, paths=paths, groups="actor", on_missing=on_missing)


def _row(folder: Path, take: str, sound: dict[str, str], pictures: dict[str, str]) -> Row:
    """Return the row of a take; a path that does not exist stands for a file that is missing."""
    channel, emotion, intensity, statement, repetition, actor = take.split("-")
    row: Row = {"audio": sound.get(take, str(folder / f"03-{take}.wav"))} if sound else {}
    row |= {"video": pictures.get(take, str(folder / f"02-{take}.mp4"))} if pictures else {}
    return row | {
        "label": _EMOTIONS[int(emotion) - 1],
        "actor": actor,
        "sex": "female" if int(actor) % 2 == 0 else "male",
        "channel": next(name for name, code in _CHANNELS.items() if code == channel),
        "intensity": "normal" if intensity == "01" else "strong",
        "statement": int(statement),
        "repetition": int(repetition),
        "clip": take,
    }
