"""M-AILABS: speech of audiobooks in several languages."""

from __future__ import annotations

import os

import numpy as np
from sklearn.utils import Bunch

_DESCR = """M-AILABS: sentences of audiobooks in several languages, with their texts.

Licence: that of the data set, which permits use and redistribution with its notice, like the BSD licences.
Citation: I. Solak, "The M-AILABS Speech Dataset", Munich Artificial Intelligence Laboratories, 2019."""


def load_mailabs(folder: str | os.PathLike[str]) -> Bunch:
    """List the sentences of M-AILABS [1]_ in a folder as its authors distribute it.

    Parameters
    ----------
    folder : str or path-like
        Folder with one or several languages, such as ``de_DE/by_book/female/speaker/book/wavs``.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `frame`, the table of :func:`mmestim.voice.find_audio` with "path" renamed to "audio"; `groups`,
        the speakers; `split`, None; and `DESCR`. There are no labels: :class:`mmestim.voice.VoiceEditDetector` makes
        its own, by editing this speech. The speaker of a book with several speakers counts as one, named by the book.

    Raises
    ------
    ValueError
        If the folder does not exist, or is in another layout.

    Warns
    -----
    UserWarning
        If a ``metadata.csv`` lists files that do not exist, which are left out, or lacks files that exist.

    See Also
    --------
    mmestim.voice.find_audio : Table of the audio files in any folder.

    References
    ----------
    .. [1] I. Solak, "The M-AILABS Speech Dataset", 2019,
       https://www.caito.de/2019/01/03/the-m-ailabs-speech-dataset/.

    Examples
    --------
    >>> from mmestim.datasets import load_mailabs
    >>> speech = load_mailabs("de_DE")  # doctest: +SKIP
    >>> women = speech.frame[speech.frame["sex"] == "female"]  # doctest: +SKIP
    """
    from ...voice._audio.folders import find_audio

    frame = find_audio(folder).rename(columns={"path": "audio"})
    if "book" not in frame or (others := frame[frame["book"].isna()]["audio"].tolist()):
        example = frame["audio"][0] if "book" not in frame else others[0]
        raise ValueError(
            f"folder={str(folder)!r} is not in the expected layout: {example} is not in "
            "language/by_book/sex/speaker/book/wavs. Use mmestim.voice.find_audio for other folders."
        )
    speakers = frame["speaker"].where(frame["speaker"].notna(), frame["language"] + " " + frame["book"])
    return Bunch(frame=frame, groups=np.array(speakers.tolist()), split=None, DESCR=_DESCR)
