"""Types of parameters that several rooms share."""

from __future__ import annotations

import os

import numpy as np

#: Value of `random_state`, as scikit-learn's `check_random_state` accepts it.
Seed = int | np.random.RandomState | None
#: Path of a file or folder.
FilePath = str | os.PathLike[str]
