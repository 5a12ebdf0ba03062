"""Audio files in folders, and what the layout of M-AILABS says of them."""

from __future__ import annotations

import os
import warnings
from typing import Any

from .reading import suggestion

_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")
# Sound that is rarely what one trains on, or cannot be read; who looks for edits in a folder must hear of it.
_OTHER_SUFFIXES = (
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".w64",
    ".m4a",
    ".aac",
    ".wma",
    ".amr",
    ".3gp",
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
)
# Books of several speakers have their own folder.
_SEXES = {"female", "male", "mixed", "mix"}


def find_audio(folder: str | os.PathLike[str]) -> Any:
    """Table of the audio files in a folder, with speakers and texts where its layout tells them.

    Parameters
    ----------
    folder : str or path
        The files .wav .flac .ogg .oga .opus .mp3 on all its levels are listed; what begins with a dot is hidden.

    Returns
    -------
    files : DataFrame
        One row per file, sorted by `path`, which begins with `folder` as given. For files in the layout of
        M-AILABS, ``language[/by_book]/sex/speaker/book/wavs``, also `language`, `sex`, `speaker` and `book`; for
        those in a ``wavs`` beside a ``metadata.csv``, lines ``name|text|normalised text``, the normalised
        `text`. `None` is what is not known, such as the speakers of a book read by several.

    Warns
    -----
    UserWarning
        If a ``metadata.csv`` names files that are not there, which are left out, or lacks some that are.

    See Also
    --------
    AudioCorpus : Reads them.

    Examples
    --------
    >>> from mmestim.voice import AudioCorpus, find_audio
    >>> files = find_audio("de_DE")  # doctest: +SKIP
    >>> women = AudioCorpus(files[files["sex"] == "female"])  # doctest: +SKIP
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError('find_audio gives a DataFrame. Install pandas: pip install "mmestim[pandas]"') from error
    paths = files_in(os.fspath(folder))
    columns: dict[str, list[str | None]] = {"path": list(paths)}
    places = [place(path) for path in paths]
    if any(places):
        columns |= {name: [known.get(name) for known in places] for name in ("language", "sex", "speaker", "book")}
    if texts := _texts(paths):
        columns["text"] = [texts.get(path) for path in paths]
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def files_in(folder: str, *, is_thorough: bool = False) -> list[str]:
    """Paths of the audio files in a folder, sorted; thoroughly, also of other sound, and of folders without access."""
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise ValueError(f"{folder!r} is a file, not a folder. Put the paths of files in a list: [{folder!r}].")
        if "://" in folder:
            raise ValueError(f"{folder!r} is a URL, and files must be local. Download it first.")
        raise ValueError(f"The folder {folder!r} does not exist{suggestion(folder.rstrip(os.sep))}")

    paths, seen = [], {os.path.realpath(folder)}
    suffixes = _SUFFIXES + _OTHER_SUFFIXES if is_thorough else _SUFFIXES

    def fail(error):
        if not is_thorough or error.filename == folder:
            raise ValueError(f"The folder {error.filename!r} cannot be listed: {error.strerror}.") from error
        paths.append(error.filename)

    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        # Links may lead in circles.
        real = {name: os.path.realpath(os.path.join(here, name)) for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for name, target in real.items() if target not in seen]
        seen.update(real.values())
        paths += [os.path.join(here, name) for name in names if name[0] != "." and name.lower().endswith(suffixes)]
    if not paths:
        raise ValueError(f"The folder {folder!r} holds no audio files ({' '.join(suffixes)}). Give another.")
    return sorted(paths)


def place(path: str) -> dict[str, str | None]:
    """Language, sex, speaker and book of a file in the layout of M-AILABS; nothing for others."""
    *above, first, second, book, wavs, _ = ["", "", "", "", *os.path.abspath(path).split(os.sep)]
    if wavs != "wavs" or not {first, second} & _SEXES:
        return {}
    if first in _SEXES:
        sex, speaker = first, None if second in _SEXES else second
    else:  # sex/book without a speaker between
        above, sex, speaker = [*above, first], second, None
    language = [name for name in above if name != "by_book"][-1]
    return {"language": language or None, "sex": sex, "speaker": speaker, "book": book}


def _texts(paths):
    """Texts by path, from the tables beside folders called wavs."""
    by_folder = {}
    for path in paths:
        folder, name = os.path.split(os.path.abspath(path))
        if os.path.basename(folder) == "wavs":
            by_folder.setdefault(os.path.dirname(folder), {})[os.path.splitext(name)[0]] = path
    texts, absent, untold = {}, [], []
    for folder, files in by_folder.items():
        table = os.path.join(folder, "metadata.csv")
        if not os.path.isfile(table):
            continue
        with open(table, encoding="utf-8-sig", errors="replace") as lines:
            rows = [line.rstrip("\n").split("|") for line in lines if line.strip()]
        named = {row[0].removesuffix(".wav"): row[-1] or row[1] for row in rows if len(row) > 1}
        texts |= {files[name]: text for name, text in named.items() if name in files}
        absent += [f"{name} in {table}" for name in named if name not in files]
        untold += [path for name, path in files.items() if name not in named]
    if absent or untold:
        says = [
            f"{len(names)} {what}, the first {names[0]}"
            for names, what in ((absent, "files of metadata.csv are not there"), (untold, "files are not in it"))
            if names
        ]
        warnings.warn(f"{'; '.join(says)}. The former are left out, the latter have no text.", stacklevel=3)
    return texts
