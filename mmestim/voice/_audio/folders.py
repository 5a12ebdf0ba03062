"""Listing of audio files in folders, with speakers and texts from the layout of M-AILABS."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from typing import Any

from ..._utils.tables import make_frame
from .._files.paths import path_suggestion

# Suffixes of files with sound that can be read.
AUDIO_SUFFIXES = (
    ".3gp .aac .ac3 .aif .aifc .aiff .amr .ape .au .caf .flac .m4a .m4b .mka .mp2 .mp3 .oga .ogg .opus .snd .spx .tta "
    ".voc .w64 .wav .wave .wma .wv"
).split()
VIDEO_SUFFIXES = ".3g2 .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv".split()
_SUFFIXES = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)
# The folder of the sex is "mixed" or "mix" for books with several speakers.
_SEXES = {"female", "male", "mixed", "mix"}


def find_audio(folder: str | os.PathLike[str]) -> Any:
    """List the audio files in a folder in a table, with speakers and texts if the layout contains them.

    Parameters
    ----------
    folder : str or path
        Folder to search with its subfolders for audio and video files, by their suffixes. Names that begin with a dot
        are ignored.

    Returns
    -------
    files : DataFrame
        One row per file, sorted by `path`, which begins with `folder` as given. For files in the layout of M-AILABS,
        ``language[/by_book]/sex/speaker/book/wavs``, there are columns `language`, `sex`, `speaker` and `book`. For
        files in a folder ``wavs`` beside a ``metadata.csv`` with lines ``name|text|normalised text``, there is a column
        `text` with the normalised text. Unknown values are None, such as the speaker of a book with several speakers.

    Warns
    -----
    UserWarning
        If a ``metadata.csv`` lists files that do not exist, which are left out, or lacks files that exist.

    See Also
    --------
    AudioCorpus : Clips of these files.

    Examples
    --------
    >>> from mmestim.voice import AudioCorpus, find_audio
    >>> files = find_audio("de_DE")  # doctest: +SKIP
    >>> women = AudioCorpus(files[files["sex"] == "female"])  # doctest: +SKIP
    """
    paths = files_in(os.fspath(folder))
    columns: dict[str, list[str | None]] = {"path": list(paths)}
    layouts = [parse_mailabs_path(path) for path in paths]
    if any(layouts):
        columns |= {name: [layout.get(name) for layout in layouts] for name in ("language", "sex", "speaker", "book")}
    if texts := _read_texts(paths):
        columns["text"] = [texts.get(path) for path in paths]
    return make_frame("find_audio", columns)


def files_in(folder: str, *, is_thorough: bool = False) -> list[str]:
    """Return the sorted paths of the audio and video files in a folder.

    Parameters
    ----------
    folder : str
        Folder to search with its subfolders.
    is_thorough : bool, default=False
        Whether to include subfolders that cannot be listed, instead of raising an error.

    Returns
    -------
    list of str
        The paths, which begin with `folder`.

    Raises
    ------
    ValueError
        If the folder does not exist, cannot be listed or contains no audio file.
    """
    paths, _ = _search(folder, is_thorough)
    if not paths:
        raise ValueError(
            f"The folder {folder!r} contains no audio files (.wav .mp3 .m4a .mp4 and others). Pass another."
        )
    return paths


def left_out(folder: str) -> dict[str, int]:
    """Count the files in a folder that `files_in` leaves out.

    Parameters
    ----------
    folder : str
        Folder to search with its subfolders.

    Returns
    -------
    dict of str to int
        Numbers of files by suffix in lower case, such as ``".txt"``, the most frequent first. Files without a suffix
        have the key ``"no suffix"``, files and subfolders whose names begin with a dot ``"hidden"``.
    """
    return dict(_search(folder, is_thorough=True)[1].most_common())


def _search(folder: str, is_thorough: bool) -> tuple[list[str], Counter[str]]:
    """Return the sorted paths of audio and video files, and the numbers of other files by suffix."""
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise ValueError(f"{folder!r} is a file, not a folder. Pass the paths of files in a list: [{folder!r}].")
        if "://" in folder:
            raise ValueError(f"{folder!r} is a URL, and files must be local. Download it first.")
        raise ValueError(f"The folder {folder!r} does not exist{path_suggestion(folder.rstrip(os.sep))}")

    paths: list[str] = []
    others: Counter[str] = Counter()
    visited = {os.path.realpath(folder)}

    def handle_error(error: OSError) -> None:
        if not is_thorough or error.filename == folder:
            raise ValueError(f"The folder {error.filename!r} cannot be listed: {error.strerror}.") from error
        paths.append(error.filename)

    for parent, subfolders, names in os.walk(folder, onerror=handle_error, followlinks=True):
        # Links may form cycles, so each real folder is visited once.
        targets = {name: os.path.realpath(os.path.join(parent, name)) for name in sorted(subfolders) if name[0] != "."}
        others["hidden"] += len(subfolders) - len(targets)
        subfolders[:] = [name for name, target in targets.items() if target not in visited]
        visited.update(targets.values())
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name[0] == ".":
                others["hidden"] += 1
            elif suffix in _SUFFIXES:
                paths.append(os.path.join(parent, name))
            else:
                others[suffix or "no suffix"] += 1
    return sorted(paths), +others  # without zeros


def parse_mailabs_path(path: str) -> dict[str, str | None]:
    """Return language, sex, speaker and book of a file in the layout of M-AILABS; an empty dict for other files."""
    *parents, first, second, book, wavs, _ = ["", "", "", "", *os.path.abspath(path).split(os.sep)]
    if wavs != "wavs" or not {first, second} & _SEXES:
        return {}
    if first in _SEXES:
        sex, speaker = first, None if second in _SEXES else second
    else:  # sex/book without a folder of the speaker
        parents, sex, speaker = [*parents, first], second, None
    language = [name for name in parents if name != "by_book"][-1]
    return {"language": language or None, "sex": sex, "speaker": speaker, "book": book}


def _read_texts(paths: list[str]) -> dict[str, str]:
    """Return texts by path, from the metadata.csv beside each folder with the name wavs; warn about mismatches."""
    by_folder: dict[str, dict[str, str]] = {}
    for path in paths:
        folder, name = os.path.split(os.path.abspath(path))
        if os.path.basename(folder) == "wavs":
            by_folder.setdefault(os.path.dirname(folder), {})[os.path.splitext(name)[0]] = path
    texts: dict[str, str] = {}
    missing: list[str] = []
    unlisted: list[str] = []
    for folder, files in by_folder.items():
        table = os.path.join(folder, "metadata.csv")
        if not os.path.isfile(table):
            continue
        with open(table, encoding="utf-8-sig", errors="replace") as lines:
            rows = [line.rstrip("\n").split("|") for line in lines if line.strip()]
        listed = {row[0].removesuffix(".wav"): row[-1] or row[1] for row in rows if len(row) > 1}
        texts |= {files[name]: text for name, text in listed.items() if name in files}
        missing += [f"{name} in {table}" for name in listed if name not in files]
        unlisted += [path for name, path in files.items() if name not in listed]
    if missing or unlisted:
        problems = []
        if missing:
            problems.append(
                f"{len(missing)} files of metadata.csv do not exist and are left out, the first {missing[0]}"
            )
        if unlisted:
            problems.append(f"{len(unlisted)} files are not in metadata.csv and have no text, the first {unlisted[0]}")
        warnings.warn(f"{'; '.join(problems)}.", stacklevel=3)
    return texts
