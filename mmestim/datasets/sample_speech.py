"""Sample recording of speech."""

from __future__ import annotations

from importlib.resources import files

import soundfile
from sklearn.utils import Bunch

_TRANSCRIPT = (
    "Printing, in the only sense with which we are at present concerned, differs from most if not from all the arts "
    "and crafts represented in the Exhibition."
)


def load_sample_speech() -> Bunch:
    """Load a recording of one spoken sentence that comes with the package.

    It is the clip LJ001-0001 of the LJ Speech data set [1]_, which is in the public domain.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Recording with `waveform`, float32 of shape (n_samples,) within -1 and 1; `sample_rate`, 22050 Hz; `transcript`;
        and `DESCR`.

    References
    ----------
    .. [1] K. Ito and L. Johnson, "The LJ Speech Dataset", 2017, https://keithito.com/LJ-Speech-Dataset/.

    Examples
    --------
    >>> from mmestim.datasets import load_sample_speech
    >>> speech = load_sample_speech()
    >>> print(f"{len(speech.waveform) / speech.sample_rate:.2f} s")
    9.66 s
    """
    with files(__package__).joinpath("sample_speech.flac").open("rb") as file:
        waveform, sample_rate = soundfile.read(file, dtype="float32")
    descr = "One sentence of the LJ Speech data set (public domain), read by Linda Johnson for LibriVox."
    return Bunch(waveform=waveform, sample_rate=sample_rate, transcript=_TRANSCRIPT, DESCR=descr)
