"""VoiceEditDetector: which edits a recording went through, where, and how sure that is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from .._validation import check_choice, check_number
from ..training import TrainingOptions, seed_for
from ._calibration import Combination, Unaltered, tune_thresholds
from ._clip_windows import merged, windows_in
from ._lessons import folds_of, given_windows, simulated_windows
from ._models import FeatureModel, HybridModel, Lesson, WindowModel
from .corpus import AudioCorpus
from .metrics import detection_report, macro_average_precision
from .simulator import EditSimulator
from .taxonomy import CATEGORIES, LABELS, TAXONOMY
