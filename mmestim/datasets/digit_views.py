"""Views of scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state

from .._utils.validation import check_number
from ._arguments import check_names
from ._bunch import make_bunch
from .modality_model import Seed


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
    return make_bunch(blocks, digits.target, return_X_y, DESCR=f"scikit-learn's 8x8 digits as views {views}.")


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
