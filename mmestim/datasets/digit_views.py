"""Several views of the handwritten digits of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state

from .._utils.types import Seed
from .._utils.validation import check_number
from ._arguments import check_names
from ._bunch import make_bunch


def load_digit_views(
    *,
    views: Sequence[str] | None = None,
    noise: Mapping[str, float] | None = None,
    random_state: Seed = 0,
    return_X_y: bool = False,
) -> Any:
    """Load the handwritten digits of scikit-learn as several views of each image.

    The views are computed from the 1797 images of :func:`sklearn.datasets.load_digits`, which have 8 by 8 pixels.
    From the strongest to the weakest, they are:

    - "pixels": 64 features, the brightness from 0 to 1; the only view with a shape, (8, 8);
    - "projections": 16 features, the mean brightness of each row, then of each column;
    - "fourier": 34 features, the magnitudes of the orthonormal 2-D Fourier transform, one per conjugate pair;
    - "moments": 6 features: the mean brightness, the centroid (x, y) in pixels relative to the centre of the image,
      and the central second moments (xx, xy, yy) in square pixels.

    Parameters
    ----------
    views : sequence of str, default=None
        Views to return, in this order. `None` returns all four, in the order above.
    noise : dict of str to float, default=None
        Standard deviation of the Gaussian noise that is added to every feature of a view, in the units of the
        view. The other views are computed from the clean image.
    random_state : int, RandomState instance or None, default=0
        Seed of the noise.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Data set with `data`, float32 of shape (1797, n_features); `target`, the digits; `modalities`, dict of str
        to slice; `shapes`, dict of str to tuple; `target_names`; and `DESCR`. With ``return_X_y=True``, the tuple
        ``(data, target)`` instead.

    Raises
    ------
    ValueError
        If `views` contains an unknown or repeated view, or `noise` a view that is not returned.
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
    all_views = _compute_views(digits.images / 16)
    views = list(all_views) if views is None else check_names("views", views, all_views)
    noise = noise or {}
    if unknown := [view for view in noise if view not in views]:
        raise ValueError(f"noise has {unknown[0]!r}, which is not one of the returned views {views}.")
    rng = check_random_state(random_state)
    blocks = {view: all_views[view] for view in views}
    for view in [view for view in all_views if view in noise]:
        check_number(f"noise[{view!r}]", noise[view])
        blocks[view] = blocks[view] + noise[view] * rng.standard_normal(blocks[view].shape)
    return make_bunch(blocks, digits.target, return_X_y, DESCR=f"scikit-learn's 8x8 digits as views {views}.")


def _compute_views(images: np.ndarray) -> dict[str, np.ndarray]:
    spectrum = np.abs(np.fft.rfft2(images, norm="ortho"))
    # The first and the last column hold conjugate pairs: rows 5 to 7 repeat rows 3 to 1.
    fourier = [spectrum[:, :, 1:4].reshape(-1, 24), spectrum[:, :5, 0], spectrum[:, :5, 4]]
    position, mass = np.arange(8) - 3.5, images.sum(axis=(1, 2))
    x, y = images.sum(axis=1) @ position / mass, images.sum(axis=2) @ position / mass
    dx, dy = (position - x[:, None])[:, None, :], (position - y[:, None])[:, :, None]
    second_moments = [(images * product).sum(axis=(1, 2)) / mass for product in (dx * dx, dx * dy, dy * dy)]
    return {
        "pixels": images,
        "projections": np.hstack([images.mean(axis=2), images.mean(axis=1)]),
        "fourier": np.hstack(fourier),
        "moments": np.column_stack([mass / 64, x, y, *second_moments]),
    }
