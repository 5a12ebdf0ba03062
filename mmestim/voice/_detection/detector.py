"""Detector of the edits of a voice recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from ..._distributed.processes import data_parallel
from ..._training.options import Optimizer, Precision
from ..._utils.sizes import sizeof_attributes
from ..._utils.types import FilePath, Seed
from .._models.calibration import UnalteredCalibrator
from .._simulation.plan_sampling import Edits
from .._simulation.simulator import EditSimulator
from ..localization import EditSegment
from ..networks.ssl_checkpoints import Weights
from . import saved_detector
from .clip_analysis import ClipAnalysis, analyze_corpus, detected_categories, predicted_labels
from .clip_inference import FittedWindowModel
from .inputs import GivenLabels, resolve_clips, resolve_training_data, set_labels
from .parameters import Model, check_networks, check_parameters
from .scoring import log_odds, score_clips
from .trainer import DetectorTrainer


class VoiceEditDetector(TransformerMixin, ClassifierMixin, BaseEstimator):
    """Detector of the edits of a voice recording, and of their places.

    >>> import numpy as np
    >>> from mmestim.voice import VoiceEditDetector
    >>> rng = np.random.default_rng(0)
    >>> clips = [np.convolve(rng.normal(size=20000), np.ones(9) / 20, "same") for _ in range(6)]
    >>> detector = VoiceEditDetector(["low_pass", "echo"], window=1.2, model="features", n_clips=60, random_state=0)
    >>> detector.fit(clips).predict_proba(clips[:2]).shape, detector.labels_.tolist()
    ((2, 3), ['unaltered', 'low_pass', 'echo'])

    It is trained on clean speech alone, because it simulates the edits itself with `EditSimulator`. It detects up to
    21 labels in 6 categories, from cuts and filters to synthetic speech [1]_, each with a calibrated probability.

    Parameters
    ----------
    edits : 'all', list of str or dict, default='all'
        Labels to learn, as `EditSimulator` accepts them. 'tts' and 'vc' need `sources`.
    window : float or list of float, default=4.05
        Window length in seconds; the paper uses 0.35, 1.2 and 4.05 [1]_. With several lengths, each has its own
        models, and their log-odds are averaged.
    hop : float or None, default=None
        Seconds between the starts of windows, at most the shortest window; `None` is nine tenths of each window.
    model : {'hybrid', 'features', 'lcnn', 'complexnet', 'rawnet2', 'ssl'} or nn.Module class, default='hybrid'
        Model of the windows. ``'features'``: gradient-boosted trees on hand-crafted statistics, which train in
        minutes on a CPU. ``'hybrid'``: trees and small networks on these statistics and on the outputs of networks
        that score every frame for splice points and for content. The others are single networks. A class or function
        is called with the number of labels, and returns a module that maps waveforms (n, n_samples) and lengths (n,)
        to logits and embeddings.
    weights : str, path, dict or None, default=None
        For ``'ssl'``: a file or state dict of a wav2vec 2.0, HuBERT or WavLM model. Nothing is downloaded.
    fine_tune : bool, default=False
        For ``'ssl'``: whether to train these weights too, at a learning rate of at most 1e-5. Otherwise they are
        fixed, and only the weight of each layer is learnt.
    n_clips : int or None, default=None
        Number of clips to simulate; `None` is 5000 for ``'features'``, which gains little from more, else 10000.
    training_budget : float, default=1.0
        Factor on the usual number of windows that networks are trained on; below 1 for trials.
    sample_rate : int, default=16000
        Rate of waveforms that are passed as arrays, in Hz; files have their own. All are resampled to 16 kHz.
    simulator : EditSimulator or None, default=None
        Simulator of the edits, instead of one with `edits`, `sources`, `noises` and `impulse_responses`.
    sources : dict of str to audio, default=None
        Synthetic speech for 'tts' and 'vc', and 'voices' to mix in.
    noises, impulse_responses : audio, default=None
        Recordings for 'background_noise' and responses for 'reverb'.
    max_false_alarm_rate : float, default=0.01
        Largest fraction of the windows of held-out speakers, unedited or only encoded, in which other processing may
        be detected, and of those without changed content in which that may be detected.
    optimizer : {'adamw', 'sgd'} or torch.optim class, default='adamw'
        Optimizer of the networks.
    lr : float or None, default=None
        Highest learning rate; `None` is 4e-3 (small networks 2e-3) for ``'hybrid'``, 3e-4 for ``'rawnet2'``, else 1e-3.
    weight_decay : float, default=1e-2
        L2 penalty of the networks' weights.
    max_grad_norm : float or None, default=5.0
        Largest norm of the gradient; a longer gradient is scaled down to it.
    batch_size : int, default=32
        Windows per training step.
    precision : {'float32', 'bf16'}, default='float32'
        Arithmetic of the networks.
    device : str or torch.device, default='auto'
        Device of the networks: auto, cpu, cuda, ...
    n_jobs : int, default=None
        Processes that read, simulate, compute statistics and fit trees; `None` is one, -1 all cores.
    temp_folder : str or path, default=None
        Existing folder for the windows during training, 2.5 GB by default. `None` uses temporary files, and processes
        of this machine even if joblib's backend is a cluster. Name a folder that its workers share to train on them.
    verbose : int, default=0
        1 prints the steps of training, and shows a progress bar for networks.
    random_state : int, RandomState instance or None, default=None
        Seed of the simulation and of all models.

    Attributes
    ----------
    labels_ : ndarray of str
        'unaltered' and the edits that are detected, or the classes as text.
    classes_ : list of ndarray or ndarray of shape (n_classes,)
        ``array([0, 1])`` for each label, as of scikit-learn's multilabel classifiers; or the classes of clips.
    finds_edits_ : bool
        Whether the detector was fitted for edits, not as an ordinary classifier of clips.
    categories_ : ndarray of shape (6,)
        Columns of `predict_category`.
    thresholds_ : ndarray of shape (n_labels,)
        Probability from which each label is detected; the threshold of 'unaltered' is not used.
    recalls_ : ndarray of shape (n_labels,)
        Recall of each label on the windows of held-out speakers; NaN where no window has the label.
    training_report_ : dict
        Number of clips and speakers, whether the edits were simulated, and for each window length the duration and
        the scores on held-out speakers, which are slightly optimistic because they set calibration and thresholds.
    history_ : list of dict
        One entry per epoch of each network.
    models_ : dict of float to tuple
        Fitted models by window length in seconds.
    n_features_in_ : int
        Number of samples of a clip, if `X` was a 2-D array.
    device_ : str
        Device of the networks.

    See Also
    --------
    EditSimulator : Simulates the edits.
    ClipAnalysis : All results for one clip.

    Notes
    -----
    A recording is divided into overlapping windows. For a label that can be local, the odds of the recording are the
    mean of the windows' odds, as for an edit that is in one of them with equal prior probability. The longer the
    recording, the more evidence is needed to flag it; otherwise long recordings would always raise false alarms. For
    a label that applies to a whole clip, log-odds are averaged.

    About a quarter of the speakers are held out. On their windows, a logistic regression for each label calibrates
    the scores. Each threshold maximises F1 among the probabilities from 0.25 on, and is raised for the limit of false
    alarms. The probability of 'unaltered' is the product of one minus the probabilities of the labels, calibrated in
    the same way. An ordinary classifier is trained on all clips, and its scores are not calibrated.

    To keep models from recognising codecs by their cut-off alone, 15 % of the clips are duplicated with a brick-wall
    low-pass filter. Statistics, networks and all numbers are our choice; the paper's values could not be read.

    References
    ----------
    .. [1] N. M. Müller et al., "A New Approach to Voice Authenticity", Interspeech 2024, arXiv:2402.06304.
    """

    labels_: NDArray[np.str_]
    classes_: list[NDArray[np.int64]] | NDArray[Any]
    categories_: NDArray[np.str_]
    thresholds_: NDArray[np.float64]
    recalls_: NDArray[np.float64]
    training_report_: dict[str, Any]
    history_: list[dict[str, Any]]
    models_: dict[float, FittedWindowModel]
    n_features_in_: int
    device_: str
    _model_labels: list[str]

    def __init__(
        self,
        edits: Edits = "all",
        *,
        window: float | Sequence[float] = 4.05,
        hop: float | None = None,
        model: Model = "hybrid",
        weights: Weights | None = None,
        fine_tune: bool = False,
        n_clips: int | None = None,
        training_budget: float = 1.0,
        sample_rate: int = 16000,
        simulator: EditSimulator | None = None,
        sources: Mapping[str, Any] | None = None,
        noises: Any = None,
        impulse_responses: Any = None,
        max_false_alarm_rate: float = 0.01,
        optimizer: Optimizer = "adamw",
        lr: float | None = None,
        weight_decay: float = 1e-2,
        max_grad_norm: float | None = 5.0,
        batch_size: int = 32,
        precision: Precision = "float32",
        device: str | torch.device = "auto",
        n_jobs: int | None = None,
        temp_folder: FilePath | None = None,
        verbose: int = 0,
        random_state: Seed = None,
    ) -> None:
        self.edits = edits
        self.window = window
        self.hop = hop
        self.model = model
        self.weights = weights
        self.fine_tune = fine_tune
        self.n_clips = n_clips
        self.training_budget = training_budget
        self.sample_rate = sample_rate
        self.simulator = simulator
        self.sources = sources
        self.noises = noises
        self.impulse_responses = impulse_responses
        self.max_false_alarm_rate = max_false_alarm_rate
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.batch_size = batch_size
        self.precision = precision
        self.device = device
        self.n_jobs = n_jobs
        self.temp_folder = temp_folder
        self.verbose = verbose
        self.random_state = random_state

    @classmethod
    def from_pretrained(cls, *, device: str | torch.device = "auto") -> Self:
        """Load the detector that comes with the package; its file MODEL_CARD.md describes its training and limits.

        Parameters
        ----------
        device : str or torch.device, default='auto'
            Device for predictions, as in `mmestim.load`.

        Returns
        -------
        VoiceEditDetector
            The fitted detector.

        Examples
        --------
        >>> VoiceEditDetector.from_pretrained().labels_[:4].tolist()
        ['unaltered', 'tts', 'cut', 'paste']
        """
        from ...persistence import load
        from ..pretrained import pretrained_file

        with pretrained_file() as path:
            return load(path, device=device).set_params(n_jobs=None, verbose=0)

    @data_parallel
    def fit(self, X: Any, y: GivenLabels | None = None, groups: ArrayLike | None = None) -> Self:
        """Train on clean speech, or on clips whose edits are known.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips: a list or 1-D object array of waveforms of any length or of paths, a 2-D array of clips of
            one length, a DataFrame with a column ``path``, or a corpus.
        y : sequence, default=None
            Edits of the clips. `None` takes the clips as unedited and simulates edits. Otherwise `EditRecord`
            objects, sets of labels, or an indicator matrix; labels that no clip has are left out. Only records
            include the places of edits; without them, an edit applies to the whole clip. A matrix is a DataFrame
            with labels as columns, or has a column for each of `edits` or of `mmestim.voice.LABELS`, with or without
            'unaltered' before them. Other labels, one per clip, make this an ordinary classifier of clips.
        groups : array-like of shape (n_clips,), default=None
            Speaker of each clip. `None` takes the speakers of a corpus or DataFrame, or else treats each clip as a
            speaker of its own. Scores are calibrated on held-out speakers.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter, a clip or `y` is not as described.
        """
        for name in ("models_", "thresholds_", "recalls_", "history_", "training_report_"):
            self.__dict__.pop(name, None)  # A failed fit must not leave the results of an earlier one.
        options = check_parameters(self)
        corpus, truth, labels, speakers = resolve_training_data(self, X, y, groups)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        set_labels(self, labels, None if truth is None else truth.classes)
        self.device_ = str(options.device)
        check_networks(self, labels)
        trainer = DetectorTrainer.from_estimator(self, labels, not self.finds_edits_, options, seed)
        fitted = trainer.train(corpus, truth, speakers)
        self.models_, self.history_, self.training_report_ = fitted.models, fitted.history, fitted.report
        self._unaltered_calibrator: UnalteredCalibrator | None = fitted.unaltered
        if fitted.thresholds is not None and fitted.recalls is not None:
            self.thresholds_, self.recalls_ = fitted.thresholds, fitted.recalls
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the detected labels of each clip, whose probabilities reach their thresholds.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_labels) or (n_clips,)
            0 or 1 for each of `labels_`, with 1 for 'unaltered' if no other label is detected; the class, if fitted
            as an ordinary classifier.
        """
        proba, classes = self.predict_proba(X), self.classes_
        return predicted_labels(proba, self.thresholds_) if isinstance(classes, list) else classes[proba.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probability of each label in each clip.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_labels)
            Float32, in the order of `labels_`. Labels of edits are not exclusive, so rows do not sum to 1.
        """
        return np.array([list(clip.probabilities.values()) for clip in self.analyze(X, locate=False)], np.float32)

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Return the log-odds of each label in each clip.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_labels)
            Float32, in the order of `labels_`; one column for two classes, as in scikit-learn.
        """
        check_is_fitted(self)
        return log_odds(self, X)

    def predict_category(self, X: Any) -> NDArray[np.int64]:
        """Return the categories of the detected edits of each clip.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, 6)
            1 where any edit of the category in `categories_` is detected, else 0.
        """
        self._check_finds_edits("predict_category")
        return detected_categories(self.predict(X)[:, 1:], self._model_labels)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embedding of each clip, the mean over its windows.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_embeddings)
            Float32; the statistics, if ``model='features'``.
        """
        return np.stack([analysis.embedding for analysis in self.analyze(X, locate=False)])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return names of the embedding's values, such as ``window4.05_0``; `input_features` is ignored."""
        check_is_fitted(self)
        sizes = {seconds: fitted.model.embedding_dim for seconds, fitted in self.models_.items()}
        return np.array([f"window{s:g}_{i}" for s, size in sizes.items() for i in range(size)], dtype=object)

    def score(self, X: Any, y: GivenLabels | None = None) -> float:  # type: ignore[override]  # without sample_weight
        """Return the mean average precision of the labels, or the accuracy of a classifier.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.
        y : sequence, default=None
            Ground truth, as in `fit`. `None` takes the clips as unedited and simulates edits with a default
            `EditSimulator` of this detector's `edits` and audio. The seed is fixed, so that all candidates of a
            search are scored on the same clips. To choose a simulator, score on clips whose edits are known:
            ``scoring=lambda detector, X, y: detector.score(clips, records)``.

        Returns
        -------
        float
            Mean of the average precision over the labels, without 'unaltered'; or the accuracy.
        """
        check_is_fitted(self)
        return score_clips(self, X, y)

    def predict_proba_per_window(self, X: Any) -> list[tuple[NDArray[np.float64], NDArray[np.float32]]]:
        """Return the probability of each label in each window.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        list of (ndarray of shape (n_windows, 2), ndarray of shape (n_windows, n_labels))
            For each clip the start and end of its windows in seconds, and the probabilities in each window; with
            several window lengths, of the shortest.
        """
        return [(clip.window_spans, clip.window_probabilities) for clip in self.analyze(X, locate=False)]

    def locate(self, X: Any) -> list[list[EditSegment]]:
        """Return the segments of the edits that `predict` detects.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        list of list of EditSegment
            Segments of each clip; each detected label has one or more.
        """
        self._check_finds_edits("locate")
        return [list(analysis.segments) for analysis in self.analyze(X)]

    def explain(self, X: Any) -> list[str]:
        """Return the result for each clip in words that can be quoted, including the edits that are not tested.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        list of str
            A paragraph for each clip.
        """
        self._check_finds_edits("explain")
        return [analysis.explanation for analysis in self.analyze(X)]

    def analyze(self, X: Any, *, locate: bool = True) -> list[ClipAnalysis]:
        """Return all results for each clip: probabilities, detected edits, segments and scores of windows.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.
        locate : bool, default=True
            Whether to locate the detected edits. Otherwise `segments` is empty and the explanation has no times.

        Returns
        -------
        list of ClipAnalysis
            One for each clip.
        """
        check_is_fitted(self)
        return analyze_corpus(self, resolve_clips(self, X, reset=False), locate)

    @property
    def finds_edits_(self) -> bool:
        """True if the detector was fitted for edits, not as an ordinary classifier of clips."""
        return isinstance(self.classes_, list)

    def _check_finds_edits(self, method: str) -> None:
        check_is_fitted(self)
        if not self.finds_edits_:
            raise AttributeError(f"{method} needs a detector of edits; this one was fitted as a classifier of clips.")

    # Required by `mmestim.save` and `load`.
    _parameters_with_modules = ("model",)
    _parameters_left_out = ("weights", "simulator", "sources", "noises", "impulse_responses", "temp_folder")
    _to_file = saved_detector.to_file
    _from_header = saved_detector.from_header
    _from_tensors = saved_detector.from_tensors

    __sizeof__ = sizeof_attributes

    def __getstate__(self) -> dict[str, Any]:
        return saved_detector.state_on_cpu(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        saved_detector.restore_device(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "models_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.classifier_tags.multi_label = True
        tags.transformer_tags.preserves_dtype = []
        return tags
