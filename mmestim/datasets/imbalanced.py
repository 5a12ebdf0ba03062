"""Synthetic modalities of chosen strength, redundancy and synergy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.utils import Bunch, check_random_state

from .._utils.types import Seed
from .._utils.validation import check_number
from ._arguments import check_names, number_per_modality
from ._bunch import column_slices
from .modality_model import ModalityModel

PerModality = float | Sequence[float] | Mapping[str, float]


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
    r"""Generate modalities of chosen strength whose Bayes-optimal accuracy is known.

    The generative model is our own construction. The class :math:`y` is uniform on :math:`0, \dots, K-1`, and
    :math:`c_0, \dots, c_{K-1}` are the corners of a regular simplex with edges of length 1. A modality :math:`m`
    with strength :math:`s_m`, noise :math:`\sigma_m`, redundancy :math:`r_m` and synergy :math:`t_m` is

    .. math:: x_m = \sqrt{1 - r_m}\, s_m A_m c_y + \sqrt{r_m}\, s_m B_m c_y + t_m C_m c_{u_m} + \sigma_m e_m

    where :math:`[A_m\, B_m\, C_m]` has random orthonormal columns and :math:`e_m` is standard normal.

    - A is unique evidence: it is independent of the other modalities given the class.
    - B is shared evidence: between two modalities, the noise :math:`B_m^\top e_m` has the correlation
      :math:`\min(a_m, a_l) / \max(a_m, a_l)`, where :math:`a_m = \sqrt{r_m}\, s_m / \sigma_m`. The weaker modality
      therefore contains the evidence of the stronger one with added noise, and nothing new.
    - C is a code split over the modalities with :math:`t_m > 0`. Their words :math:`u_m` are uniform on :math:`0,
      \dots, K-1` and :math:`\sum_m u_m \equiv y \pmod K`. They are independent of :math:`y` as long as one of them
      is missing. For two classes and two modalities, this is the exclusive or.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_classes : int, default=4
        Number of classes :math:`K`, 2 or more.
    modalities : sequence of str, default=("strong", "weak")
        Names of any number of modalities.
    strength : float, or sequence or dict of one float per modality, default=None
        Distance :math:`s_m \ge 0` between two class means. `None` uses 4, 2, 1 and so on,
        each half of the one before.
    noise : float, or sequence or dict of one float per modality, default=1.0
        Standard deviation :math:`\sigma_m > 0` of every feature around its mean.
    redundancy : float, or sequence or dict of one float per modality, default=0.0
        Fraction :math:`r_m`, from 0 to 1, of the squared strength that is shared evidence.
    synergy : float, or sequence or dict of one float per modality, default=0.0
        Distance :math:`t_m \ge 0` between two code words. Either all are zero, or at least two are non-zero.
    n_features : int, or sequence or dict of one int per modality, default=32
        Number of features: at least ``n_classes - 1`` for each of the terms A (:math:`r_m < 1`), B
        (:math:`r_m > 0`) and C (:math:`t_m > 0`) of the modality. Each term is spread over all features.
    random_state : int, RandomState instance or None, default=None
        Seed of the directions A, B, C and of the samples.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `data`, float32 of shape (n_samples, n_features); `target`, the classes; `modalities`, dict
        of str to slice; `shapes`, empty; `model`, the :class:`ModalityModel`, which draws new samples and computes
        exact posteriors and Bayes-optimal accuracies for all subsets of the modalities; and `DESCR`.

    Raises
    ------
    ValueError
        If a value is out of range, does not fit `modalities`, or `synergy` is non-zero in a single modality.
    TypeError
        If a value is not a number, or `modalities` is not a sequence of names.

    Notes
    -----
    A subset :math:`S` that lacks a part of the code is equivalent to one modality with noise 1 and strength

    .. math:: d^2 = \sum_{m \in S} (1 - r_m) s_m^2 / \sigma_m^2 + \max_{m \in S} r_m s_m^2 / \sigma_m^2

    Its Bayes-optimal accuracy is :math:`\int \varphi(z - d / \sqrt 2)\, \Phi(z)^{K-1} dz` [1]_, which is
    :math:`\Phi(d / 2)` for two classes. The sum, the maximum and the code correspond to unique, redundant and
    synergistic information in the terms of [2]_.

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
    default_strengths = [4 / 2**i for i in range(len(names))]
    s = number_per_modality("strength", default_strengths if strength is None else strength, names)
    sigma = number_per_modality("noise", noise, names, closed=False)
    r = number_per_modality("redundancy", redundancy, names, high=1)
    t = number_per_modality("synergy", synergy, names)
    sizes = number_per_modality("n_features", n_features, names, low=1, integer=True)
    if len(carriers := [name for name in names if t[name] > 0]) == 1:
        raise ValueError(
            f"synergy is non-zero in {carriers[0]!r} alone, but a code is split over two or more modalities. "
            "Make it non-zero in another modality too, or zero in all."
        )
    rng = check_random_state(random_state)
    levels, frames = {}, {}
    for name in names:
        has_term = [r[name] < 1, r[name] > 0, t[name] > 0]
        if sizes[name] < (needed := sum(has_term) * (n_classes - 1)):
            raise ValueError(
                f"n_features={sizes[name]} is too small for {name!r}: its redundancy and synergy, with "
                f"n_classes={n_classes}, require {needed} or more. Increase n_features or decrease n_classes."
            )
        unique, shared = np.sqrt([1 - r[name], r[name]]) * s[name]
        levels[name] = np.array([unique, shared, t[name]]) / sigma[name]
        # The frame of a missing term stays zero, so that the term contributes nothing.
        frames[name] = np.zeros((3, sizes[name], n_classes - 1))
        columns = np.linalg.qr(rng.standard_normal((sizes[name], needed)))[0]
        frames[name][has_term] = np.split(columns, sum(has_term), axis=1)
    model = ModalityModel(int(n_classes), column_slices(sizes), sigma, levels, frames)
    X, y = model.sample(n_samples, random_state=rng)
    descr = f"Samples of a known model: strength {s}, noise {sigma}, redundancy {r}, synergy {t}."
    return Bunch(data=X, target=y, modalities=model.modalities, shapes={}, model=model, DESCR=descr)
