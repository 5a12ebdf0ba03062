"""Data sets with several modalities: views of digits, a synthetic model with known answers, two readers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state

from .._utils.validation import check_number
from .modality_model import ModalityModel, Seed, check_names

PerModality = float | Sequence[float] | Mapping[str, float]


def load_digit_views(
    *,
    views: Sequence[str] | None = None,
    noise: Mapping[str, float] | None = None,
    random_state: Seed = 0,
    return_X_y: bool = False,
) -> Any:
    """Handwritten digits of scikit-learn as several views of each image.

    All are computed from the 1797 images of :func:`sklearn.datasets.load_digits`, 8 by 8 pixels. From the
    strongest to the weakest:

    - "pixels": 64 features, brightness, 0..1; the only view with a shape, (8, 8);
    - "projections": 16 features, mean brightness of each row, then of each column;
    - "fourier": 34 features, magnitudes of the orthonormal 2-D Fourier transform, one of each conjugate pair;
    - "moments": 6 features, mean brightness; centroid (x, y) in pixels from the middle of the image; central
      second moments (xx, xy, yy) in square pixels.

    Parameters
    ----------
    views : sequence of str, default=None
        Views to return, in this order. `None` returns all four in the order above.
    noise : dict of str to float, default=None
        Standard deviation of the Gaussian noise added to every feature of a view, in the units of the view.
        The other views are computed from the clean image.
    random_state : int, RandomState instance or None, default=0
        Seeds the noise.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        `data`, float32 of shape (1797, n_features); `target`, the digit; `modalities`, dict of str to slice;
        `shapes`, dict of str to tuple; `target_names`; `DESCR`.

    Raises
    ------
    ValueError
        If `views` holds an unknown view or one twice, or `noise` one that is not returned.
    TypeError
        If `views` is not a sequence of names.

    Examples
    --------
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "moments"])
    >>> digits.data.shape, digits.modalities["moments"], digits.shapes
    ((1797, 70), slice(64, 70, None), {'pixels': (8, 8)})
    """
    digits = load_digits()
    every = _digit_views(digits.images / 16)
    views = list(every) if views is None else check_names("views", views, every)
    noise = noise or {}
    if unknown := [view for view in noise if view not in views]:
        raise ValueError(f"noise has {unknown[0]!r}, which is not among the views returned, {views}.")
    rng = check_random_state(random_state)
    blocks = {view: every[view] for view in views}
    for view in [view for view in every if view in noise]:
        check_number(f"noise[{view!r}]", noise[view])
        blocks[view] = blocks[view] + noise[view] * rng.standard_normal(blocks[view].shape)
    return _bunch(blocks, digits.target, return_X_y, DESCR=f"scikit-learn's 8x8 digits as views {views}.")


def _digit_views(images: np.ndarray) -> dict[str, np.ndarray]:
    spectrum = np.abs(np.fft.rfft2(images, norm="ortho"))
    # Its first and last column hold conjugate pairs: rows 5 to 7 repeat rows 3 to 1.
    fourier = [spectrum[:, :, 1:4].reshape(-1, 24), spectrum[:, :5, 0], spectrum[:, :5, 4]]
    place, mass = np.arange(8) - 3.5, images.sum(axis=(1, 2))
    x, y = images.sum(axis=1) @ place / mass, images.sum(axis=2) @ place / mass
    dx, dy = (place - x[:, None])[:, None, :], (place - y[:, None])[:, :, None]
    second = [(images * power).sum(axis=(1, 2)) / mass for power in (dx * dx, dx * dy, dy * dy)]
    return {
        "pixels": images,
        "projections": np.hstack([images.mean(axis=2), images.mean(axis=1)]),
        "fourier": np.hstack(fourier),
        "moments": np.column_stack([mass / 64, x, y, *second]),
    }


def make_imbalanced_modalities(
    n_samples: int = 1000,
    *,
    n_classes: int = 4,
    modalities: Sequence[str] = ("strong", "weak"),
    strength: PerModality | None = None,
    noise: PerModality = 1.0,
    redundancy: PerModality = 0.0,
    synergy: PerModality = 0.0,
    n_features: int | Sequence[int] | Mapping[str, int] = 32,
    random_state: Seed = None,
) -> Bunch:
    r"""Synthetic modalities of chosen strength, with the best possible accuracy known.

    The generative model is our own construction. The class :math:`y` is uniform on :math:`0, \dots, K-1`;
    :math:`c_0, \dots, c_{K-1}` are the corners of a regular simplex with edges of length 1. Modality
    :math:`m` of strength :math:`s_m`, noise :math:`\sigma_m`, redundancy :math:`r_m`, synergy :math:`t_m` is

    .. math:: x_m = \sqrt{1 - r_m}\, s_m A_m c_y + \sqrt{r_m}\, s_m B_m c_y + t_m C_m c_{u_m} + \sigma_m e_m

    where :math:`[A_m\, B_m\, C_m]` has random orthonormal columns and :math:`e_m` is standard normal.

    - A is evidence of its own: independent of the other modalities given the class.
    - B is evidence held in common: its noise :math:`B_m^\top e_m` has correlation :math:`\min(a_m, a_l) /
      \max(a_m, a_l)` between two modalities, :math:`a_m = \sqrt{r_m}\, s_m / \sigma_m`, so the weaker of them
      sees what the stronger sees, with noise on top, and nothing new.
    - C is a code split over the modalities with :math:`t_m > 0`: their :math:`u_m` are uniform on :math:`0,
      \dots, K-1`, independent of :math:`y` as long as one is missing, and :math:`\sum_m u_m \equiv y \pmod K`
      (exclusive or, for two classes and two modalities).

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_classes : int, default=4
        Number of classes :math:`K`, 2 or more.
    modalities : sequence of str, default=("strong", "weak")
        Names of the modalities, any number.
    strength : float, or sequence or dict of one float per modality, default=None
        Distance :math:`s_m \ge 0` between two class means. `None` gives 4, 2, 1 and so on, by halves.
    noise : float, or sequence or dict of one float per modality, default=1.0
        Standard deviation :math:`\sigma_m > 0` of every feature about its mean.
    redundancy : float, or sequence or dict of one float per modality, default=0.0
        Share :math:`r_m`, 0 to 1, of the squared strength that is evidence held in common.
    synergy : float, or sequence or dict of one float per modality, default=0.0
        Distance :math:`t_m \ge 0` between two code words. Non-zero in no modality, or in two or more.
    n_features : int, or sequence or dict of one int per modality, default=32
        Features, at least ``n_classes - 1`` for each of the terms A (:math:`r_m < 1`), B (:math:`r_m > 0`)
        and C (:math:`t_m > 0`) that the modality has. Each term is spread over all of them.
    random_state : int, RandomState instance or None, default=None
        Seeds the directions A, B, C and the samples.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        `data`, float32 of shape (n_samples, n_features); `target`, the class; `modalities`, dict of str to
        slice; `shapes`, empty; `model`, the :class:`ModalityModel`, which draws fresh samples and knows exact
        posteriors and Bayes-optimal accuracies of all subsets of the modalities; `DESCR`.

    Raises
    ------
    ValueError
        If a value is out of range, does not fit `modalities`, or `synergy` is non-zero in a single modality.
    TypeError
        If a value is not a number, or `modalities` not a sequence of names.

    Notes
    -----
    A subset :math:`S` that lacks a part of the code is worth as much as one modality of strength

    .. math:: d^2 = \sum_{m \in S} (1 - r_m) s_m^2 / \sigma_m^2 + \max_{m \in S} r_m s_m^2 / \sigma_m^2

    and noise 1. Its Bayes-optimal accuracy is :math:`\int \varphi(z - d / \sqrt 2)\, \Phi(z)^{K-1} dz` [1]_,
    which is :math:`\Phi(d / 2)` for two classes. Sum, maximum and code hold what [2]_ calls unique, redundant
    and synergistic information.

    References
    ----------
    .. [1] D. M. Green and J. A. Swets, "Signal Detection Theory and Psychophysics", Wiley, 1966.
    .. [2] P. L. Williams and R. D. Beer, "Nonnegative Decomposition of Multivariate Information",
       arXiv:1004.2515, 2010.

    Examples
    --------
    >>> from mmestim.datasets import make_imbalanced_modalities
    >>> bunch = make_imbalanced_modalities(modalities=["audio", "image"], strength=[4, 2], random_state=0)
    >>> bunch.data.shape, bunch.modalities["image"]
    ((1000, 64), slice(32, 64, None))
    >>> [round(bunch.model.bayes_accuracy(part)[0], 3) for part in (["audio"], ["image"], None)]
    [0.943, 0.678, 0.967]
    """
    check_number("n_classes", n_classes, low=2, integer=True)
    names = check_names("modalities", modalities)
    halving = [4 / 2**i for i in range(len(names))]
    s = _per_modality("strength", halving if strength is None else strength, names)
    sigma = _per_modality("noise", noise, names, closed=False)
    r = _per_modality("redundancy", redundancy, names, high=1)
    t = _per_modality("synergy", synergy, names)
    sizes = _per_modality("n_features", n_features, names, low=1, integer=True)
    if len(carriers := [name for name in names if t[name] > 0]) == 1:
        raise ValueError(
            f"synergy is non-zero in {carriers[0]!r} alone, but a code is split over two or more modalities. "
            "Make it non-zero in another one too, or zero in all."
        )
    rng = check_random_state(random_state)
    levels, frames = {}, {}
    for name in names:
        present = [r[name] < 1, r[name] > 0, t[name] > 0]
        if sizes[name] < (needed := sum(present) * (n_classes - 1)):
            raise ValueError(
                f"n_features={sizes[name]} is too small for {name!r}: its redundancy and synergy, with "
                f"n_classes={n_classes}, take {needed} or more. Raise n_features or lower n_classes."
            )
        own, common = np.sqrt([1 - r[name], r[name]]) * s[name]
        levels[name] = np.array([own, common, t[name]]) / sigma[name]
        # A term that the modality does not have keeps a frame of zeros, and so adds nothing anywhere.
        frames[name] = np.zeros((3, sizes[name], n_classes - 1))
        columns = np.linalg.qr(rng.standard_normal((sizes[name], needed)))[0]
        frames[name][present] = np.split(columns, sum(present), axis=1)
    model = ModalityModel(int(n_classes), _slices(sizes), sigma, levels, frames)
    X, y = model.sample(n_samples, random_state=rng)
    descr = f"Samples of a known model: strength {s}, noise {sigma}, redundancy {r}, synergy {t}."
    return Bunch(data=X, target=y, modalities=model.modalities, shapes={}, model=model, DESCR=descr)


def load_av_digits(
    data_home: str | os.PathLike[str] | None = None,
    *,
    image_noise: float = 0.0,
    random_state: Seed = 0,
    return_X_y: bool = False,
) -> Any:
    """Spoken digits paired with images of digits, read from the folder of data sets.

    3000 recordings by six speakers from the Free Spoken Digit Dataset [1]_, each paired with a random MNIST
    image [2]_ of the same digit. The pairing is artificial, each half is real.

    In the hard setting of the benchmark `image_noise` is 0.8, the test set is speakers theo and yweweler, and
    the training set is 1000 rows of the other four whose images are not in the test set; see the example.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds ``av_digits/av_digits_3000.npz``; `None` for the environment variable MMESTIM_DATA.
    image_noise : float, default=0.0
        Standard deviation of Gaussian noise added to the pixels, which are 0..1 before and not clipped after.
    random_state : int, RandomState instance or None, default=0
        Seeds the noise.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        `data`, float32 of shape (3000, 2832); `target`, the digit; `modalities` and `shapes` of "audio", 64
        frames (25 ms long, 10 ms apart) by 32 bands of log-mel power, and of "image", 28 by 28 pixels;
        `speaker`, `split` ("train" or "test", official), `clip`, `mnist_index`, one per row;
        `target_names`; `DESCR`.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or neither `data_home` nor MMESTIM_DATA is set.

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
    arrays = _read("av_digits/av_digits_3000.npz", data_home)
    image = arrays["image"] / np.float32(255)
    if image_noise:
        image = image + image_noise * check_random_state(random_state).standard_normal(image.shape)
    extra = {key: arrays[key] for key in ("speaker", "split", "clip", "mnist_index")}
    descr = "Spoken digits (FSDD, CC BY-SA 4.0) paired with images of digits (MNIST, CC BY-SA 3.0)."
    blocks = {"audio": arrays["logmel"], "image": image}
    return _bunch(blocks, arrays["label"], return_X_y, DESCR=descr, **extra)


def load_mfeat(data_home: str | os.PathLike[str] | None = None, *, return_X_y: bool = False) -> Any:
    """Six feature sets of handwritten numerals (UCI), read from the folder of data sets.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds ``mfeat/mfeat_six_views.npz``; `None` for the environment variable MMESTIM_DATA.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        `data`, float32 of shape (2000, 649), in the original, very different, units; `target`, the digit;
        `modalities` "fac" (216 profile correlations), "fou" (76 Fourier coefficients), "kar" (64
        Karhunen-Loeve coefficients), "mor" (6 morphological features), "pix" (240 pixel averages) and "zer"
        (47 Zernike moments); `shapes`, empty; `split` ("train" or "test", stratified 70/30) of each row;
        `target_names`; `DESCR`.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or neither `data_home` nor MMESTIM_DATA is set.

    References
    ----------
    .. [1] R. Duin, "Multiple Features", UCI Machine Learning Repository, https://doi.org/10.24432/C5HC70.

    Examples
    --------
    >>> from mmestim.datasets import load_mfeat
    >>> load_mfeat().data.shape  # doctest: +SKIP
    (2000, 649)
    """
    arrays = _read("mfeat/mfeat_six_views.npz", data_home)
    blocks = {view: arrays[view] for view in ("fac", "fou", "kar", "mor", "pix", "zer")}
    descr = "UCI Multiple Features, CC BY 4.0."
    return _bunch(blocks, arrays["label"], return_X_y, split=arrays["split"], DESCR=descr)


def _read(file: str, data_home: str | os.PathLike[str] | None) -> dict[str, np.ndarray]:
    home = os.environ.get("MMESTIM_DATA") if data_home is None else data_home
    path = Path(home or "$MMESTIM_DATA") / file
    if not home or not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}: data_home={data_home!r}, and the environment variable MMESTIM_DATA is "
            f"{os.environ.get('MMESTIM_DATA')!r}. Set either to the folder that holds {file}."
        )
    with np.load(path) as arrays:
        return dict(arrays)


def _bunch(blocks: Mapping[str, np.ndarray], target: np.ndarray, return_X_y: bool, **extra: Any) -> Any:
    flat = {name: block.reshape(len(block), -1).astype(np.float32) for name, block in blocks.items()}
    X, y = np.hstack(list(flat.values())), target.astype(np.int64)
    if return_X_y:
        return X, y
    modalities = _slices({name: block.shape[1] for name, block in flat.items()})
    shapes = {name: block.shape[1:] for name, block in blocks.items() if block.ndim > 2}
    return Bunch(data=X, target=y, modalities=modalities, shapes=shapes, target_names=np.arange(10), **extra)


def _slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _per_modality(parameter: str, value: Any, names: Sequence[str], **limits: Any) -> dict[str, Any]:
    """One checked number for each modality, from one for all, one each in order, or a dict."""
    if isinstance(value, Mapping):
        each = dict(value)
    elif np.ndim(value):
        each = dict(zip(names, value, strict=False)) if len(value) == len(names) else {}
    else:
        each = dict.fromkeys(names, value)
    if set(each) != set(names):
        raise ValueError(
            f"{parameter}={value!r} does not fit the modalities {list(names)}. Give one value for all, "
            "a sequence of one each in this order, or a dict with these keys."
        )
    for name in names:
        check_number(f"{parameter}[{name!r}]", each[name], **{"high": 1e6, **limits})
    return {name: each[name] for name in names}
