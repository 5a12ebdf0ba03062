"""Loaders of real data sets from a local folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils.types import Seed
from .._utils.validation import check_number
from ._bunch import make_bunch


def load_av_digits(
    data_home: str | os.PathLike[str] | None = None,
    *,
    image_noise: float = 0.0,
    random_state: Seed = 0,
    return_X_y: bool = False,
) -> Any:
    """Load spoken digits that are paired with images of digits.

    The data set has 3000 recordings by six speakers from the Free Spoken Digit Dataset [1]_. Each one is paired with
    a random MNIST image [2]_ of the same digit. The recordings and images are real; the pairing is artificial.

    In the hard setting of the benchmark, `image_noise` is 0.8, the test set consists of the speakers theo and
    yweweler, and the training set has 1000 rows of the other four speakers whose images are not in the test set;
    see the example.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that contains ``av_digits/av_digits_3000.npz``; `None` uses the environment variable MMESTIM_DATA.
    image_noise : float, default=0.0
        Standard deviation of the Gaussian noise that is added to the pixels, which lie between 0 and 1 before. They
        are not clipped afterwards.
    random_state : int, RandomState instance or None, default=0
        Seed of the noise.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `data`, float32 of shape (3000, 2832); `target`, the digits; `modalities` and `shapes` of
        "audio", 64 frames (25 ms long, 10 ms apart) by 32 bands of log-mel power, and of "image", 28 by 28 pixels;
        `speaker`, `split` (the official one, "train" or "test"), `clip` and `mnist_index` of each row;
        `target_names`; and `DESCR`. With ``return_X_y=True``, the tuple ``(data, target)`` instead.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or neither `data_home` nor MMESTIM_DATA is set.

    References
    ----------
    .. [1] Z. Jackson et al., "Free Spoken Digit Dataset", https://github.com/Jakobovski/free-spoken-digit-dataset.
    .. [2] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
       Recognition", Proceedings of the IEEE 86(11), 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import train_test_split
    >>> from mmestim.datasets import load_av_digits
    >>> digits = load_av_digits(image_noise=0.8)  # doctest: +SKIP
    >>> test = np.isin(digits.speaker, ["theo", "yweweler"])  # doctest: +SKIP
    >>> shared = np.isin(digits.mnist_index, digits.mnist_index[test])  # doctest: +SKIP
    >>> rows = np.flatnonzero(~test & ~shared)  # doctest: +SKIP
    >>> train, _ = train_test_split(rows, train_size=1000, random_state=0)  # doctest: +SKIP
    """
    check_number("image_noise", image_noise)
    arrays = _load_arrays("av_digits/av_digits_3000.npz", data_home)
    image = arrays["image"] / np.float32(255)
    if image_noise:
        image = image + image_noise * check_random_state(random_state).standard_normal(image.shape)
    extra = {key: arrays[key] for key in ("speaker", "split", "clip", "mnist_index")}
    descr = "Spoken digits (FSDD, CC BY-SA 4.0) paired with images of digits (MNIST, CC BY-SA 3.0)."
    blocks = {"audio": arrays["logmel"], "image": image}
    return make_bunch(blocks, arrays["label"], return_X_y, DESCR=descr, **extra)


def load_mfeat(data_home: str | os.PathLike[str] | None = None, *, return_X_y: bool = False) -> Any:
    """Load six feature sets of handwritten numerals (UCI Multiple Features [1]_).

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that contains ``mfeat/mfeat_six_views.npz``; `None` uses the environment variable MMESTIM_DATA.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `data`, float32 of shape (2000, 649), in the original units, which differ widely; `target`,
        the digits; `modalities` "fac" (216 profile correlations), "fou" (76 Fourier coefficients), "kar" (64
        Karhunen-Loeve coefficients), "mor" (6 morphological features), "pix" (240 pixel averages) and "zer" (47
        Zernike moments); `shapes`, empty; `split` ("train" or "test", stratified 70/30) of each row;
        `target_names`; and `DESCR`. With ``return_X_y=True``, the tuple ``(data, target)`` instead.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or neither `data_home` nor MMESTIM_DATA is set.

    References
    ----------
    .. [1] R. Duin, "Multiple Features", UCI Machine Learning Repository, https://doi.org/10.24432/C5HC70.

    Examples
    --------
    >>> from mmestim.datasets import load_mfeat
    >>> load_mfeat().data.shape  # doctest: +SKIP
    (2000, 649)
    """
    arrays = _load_arrays("mfeat/mfeat_six_views.npz", data_home)
    blocks = {view: arrays[view] for view in ("fac", "fou", "kar", "mor", "pix", "zer")}
    descr = "UCI Multiple Features, CC BY 4.0."
    return make_bunch(blocks, arrays["label"], return_X_y, split=arrays["split"], DESCR=descr)


def _load_arrays(file: str, data_home: str | os.PathLike[str] | None) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file in the data folder."""
    home = os.environ.get("MMESTIM_DATA") if data_home is None else data_home
    path = Path(home or "$MMESTIM_DATA") / file
    if not home or not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}: data_home={data_home!r}, and the environment variable MMESTIM_DATA is "
            f"{os.environ.get('MMESTIM_DATA')!r}. Set either to the folder that contains {file}."
        )
    with np.load(path) as arrays:
        return dict(arrays)
