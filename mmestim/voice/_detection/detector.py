"""VoiceEditDetector: which edits a recording went through, where, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import accuracy_score, average_precision_score
from sklearn.utils import check_random_state, gen_even_slices
from sklearn.utils.validation import check_is_fitted

from .._audio.corpus import AudioCorpus
from .._constants import RATE
from .._simulation.plan_sampling import resolve_ranges
from .._simulation.simulator import EditSimulator, labels_for_corpus
from ..localization import EditSegment
from ..metrics import per_label_scores
from ..taxonomy import CATEGORIES, LABELS, TAXONOMY, UNALTERED
from .clip_analysis import ClipAnalysis, build_analysis, predicted_labels
from .clip_inference import ScannedClip, scan_clip
from .inputs import clips_of, label_matrix, truth_of
from .saved_detector import SavedDetector
from .trainer import TrainedDetector, speakers_of

_SCORE_SEED = 0


class VoiceEditDetector(TrainedDetector, SavedDetector, TransformerMixin, ClassifierMixin, BaseEstimator):
    """Detects which edits a voice recording went through, and where.

    Trained on clean speech alone: it makes the edits itself, with `EditSimulator`. It tells up to 21 labels in
    6 categories, from cuts and filters to synthetic speech [1]_, each with a calibrated probability.

    Parameters
    ----------
    edits : 'all', list of str or dict, default='all'
        Labels to learn, as `EditSimulator` takes them. 'tts' and 'vc' need `sources`.
    window : float or list of float, default=4.05
        Seconds of the windows that recordings are looked at through; 0.35, 1.2 and 4.05 are the paper's [1]_.
        With several, each has its own models, and their log-odds are averaged.
    hop : float or None, default=None
        Seconds from one window to the next, at most the shortest window; `None` is half of each.
    model : {'hybrid', 'features', 'lcnn', 'complexnet', 'rawnet2', 'ssl'} or nn.Module class, default='hybrid'
        What learns. ``'features'``: gradient-boosted trees on statistics made by hand, minutes on a CPU.
        ``'hybrid'``: these, also on what networks see frame by frame, of seams and of what lasts, and networks of
        whole windows, combined for each label. The others are single networks. A class or function is called with
        the number of labels, and gives a module from waveforms (n, n_samples) and lengths (n,) to logits and
        embeddings.
    weights : str, path, dict or None, default=None
        For ``'ssl'``: a file or state dict of a wav2vec 2.0, HuBERT or WavLM model. Nothing is downloaded.
    fine_tune : bool, default=False
        For ``'ssl'``: whether these weights train too, by a learning rate of at most 1e-5;
        otherwise they stay as they are, and how much each layer counts is learnt.
    n_clips : int or None, default=None
        Clips that are edited to train on; `None` is 5000 for ``'features'``, which learns little from more, and
        10000 for others.
    training_budget : float, default=1.0
        Times the usual number of windows that networks see; below 1 for trials.
    sample_rate : int, default=16000
        Rate of waveforms that are given as arrays, in Hz; files know theirs. All are resampled to 16 kHz.
    simulator : EditSimulator or None, default=None
        Makes the edits, instead of one with `edits`, `sources`, `noises` and `impulse_responses`.
    sources : dict of str to audio, default=None
        Synthetic speech for 'tts' and 'vc', and 'voices' to mix in.
    noises, impulse_responses : audio, default=None
        Recordings for 'background_noise' and responses for 'reverb'.
    max_false_alarm_rate : float, default=0.05
        Share of unedited windows, of speakers that the models do not know, in which any edit may be seen.
    optimizer : {'adamw', 'sgd'} or torch.optim class, default='adamw'
        Of networks.
    lr : float or None, default=None
        Their highest learning rate, in place of the model's own: 1e-3, or 3e-4 for ``'rawnet2'``, and for the
        networks of ``'hybrid'`` 4e-3.
    weight_decay : float, default=1e-2
        L2 penalty of their weights.
    max_grad_norm : float or None, default=5.0
        Longest gradient allowed; longer ones are scaled down to it.
    batch_size : int, default=32
        Windows per training step.
    precision : {'float32', 'bf16'}, default='float32'
        Arithmetic of networks.
    device : str or torch.device, default='auto'
        Where networks are trained and asked.
    n_jobs : int, default=None
        Processes that read, simulate, measure and grow trees; `None` is one, -1 all cores.
    verbose : int, default=0
        1 says what it is at, and shows a progress bar for networks.
    random_state : int, RandomState instance or None, default=None
        Seed of the edits and of all that is trained.

    Attributes
    ----------
    labels_ : ndarray of str
        'unaltered' and the edits that it tells, or the classes as text.
    classes_ : list of ndarray or ndarray of shape (n_classes,)
        ``array([0, 1])`` for each label, as of scikit-learn's classifiers of several labels; of an ordinary
        classifier the classes.
    categories_ : ndarray of shape (6,)
        Columns of `predict_category`.
    thresholds_ : ndarray of shape (n_labels,)
        Probabilities from which a label is found; that of 'unaltered' is not used.
    recalls_ : ndarray of shape (n_labels,)
        In what share of the windows that have a label, of speakers that the models do not know, it is found; NaN
        where no window has it.
    training_report_ : dict
        Clips, speakers, whether the edits were simulated, and for each length of windows how well those of speakers
        that the models do not know are told, and how long it took. By these windows probabilities and thresholds are
        set as well, so the figures are a little too good.
    history_ : list of dict
        One entry per epoch of a network.
    models_ : dict of float to tuple
        What was trained, by seconds of window.
    n_features_in_ : int
        Samples of a clip, if X was a 2-D array.
    device_ : str
        Where networks are.

    See Also
    --------
    EditSimulator : Makes the edits.

    Notes
    -----
    A recording is looked at through windows. Of labels that can be in one part of it the odds are the mean of the
    windows' odds, as of something that is in one of them, wherever: a passage has to be the surer the longer the
    recording is, or a long one would always have some false alarm. Of labels of a whole clip log-odds are averaged.

    A quarter of the speakers is kept from the models. On their windows scores become probabilities by a logistic
    regression for each label; thresholds have the best F1 there of those from .25 on, and are raised until few
    unedited windows have any; 'unaltered' is the product of one minus the probabilities, put right in the same way.
    An ordinary classifier learns from all clips, and its scores are left as they are.

    So that the cut-off of a codec is not all that is learnt of it, some clips come a second time through a
    steep low-pass filter. The statistics, the networks and how they are combined are ours, as are all numbers;
    the paper's figures could not be read.

    While it learns, windows are in a temporary folder: by default some 2.5 GB, less with fewer `n_clips`.

    References
    ----------
    .. [1] N. M. Müller et al., "A New Approach to Voice Authenticity", Interspeech 2024, arXiv:2402.06304.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import VoiceEditDetector
    >>> rng = np.random.default_rng(0)
    >>> clips = [np.convolve(rng.normal(size=20000), np.ones(9) / 20, "same") for _ in range(6)]
    >>> detector = VoiceEditDetector(["low_pass", "echo"], window=1.2, model="features", n_clips=60, random_state=0)
    >>> detector.fit(clips).predict_proba(clips[:2]).shape, detector.labels_.tolist()
    ((2, 3), ['unaltered', 'low_pass', 'echo'])
    """

    def __init__(
        self,
        edits: Any = "all",
        *,
        window: Any = 4.05,
        hop: float | None = None,
        model: Any = "hybrid",
        weights: Any = None,
        fine_tune: bool = False,
        n_clips: int | None = None,
        training_budget: float = 1.0,
        sample_rate: int = 16000,
        simulator: EditSimulator | None = None,
        sources: Any = None,
        noises: Any = None,
        impulse_responses: Any = None,
        max_false_alarm_rate: float = 0.05,
        optimizer: Any = "adamw",
        lr: float | None = None,
        weight_decay: float = 1e-2,
        max_grad_norm: float | None = 5.0,
        batch_size: int = 32,
        precision: str = "float32",
        device: Any = "auto",
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: Any = None,
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
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Train on clean speech, or on clips of which the edits are known.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips: a list or 1-D object array of waveforms of any length or of paths, a 2-D array of clips of
            one length, a DataFrame with a column ``path``, or a corpus.
        y : sequence, default=None
            `None` takes the clips as unedited, and edits them. `EditRecord` objects, sets of labels, or an
            indicator matrix say which edits the clips went through; labels that no clip has are left out. Only
            records tell where: by the others, all of a clip went through its edits. A matrix is a DataFrame with
            labels as columns, or has a column for each of `edits` or of `mmestim.voice.LABELS`, with or without
            'unaltered' before them. Other labels, one per clip, make this an ordinary classifier of clips.
        groups : array-like of shape (n_clips,), default=None
            Who speaks; `None` takes the speakers of a corpus or DataFrame, or else each clip for a speaker. What
            a score means is learnt from speakers that the models do not know.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter, a clip or y is not as described.
        """
        for name in ("models_", "thresholds_", "recalls_"):  # Should this fit fail, an earlier one must not answer.
            self.__dict__.pop(name, None)
        options = self._check_parameters()
        corpus = clips_of(self, X, RATE, self.sample_rate, reset=True)
        truth = None if y is None else truth_of(y, len(corpus), self._orders())
        labels = labels_for_corpus(self._simulator(), corpus) if truth is None else truth.labels
        if not labels:
            raise ValueError("none of the edits can be made of these clips, or y names none: nothing can be learnt.")
        speakers = speakers_of(groups, corpus)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.classes_: Any = [np.array([0, 1])] * (1 + len(labels))
        self._columns = labels
        if truth is not None and truth.classes is not None:
            self.classes_ = truth.classes
        self.labels_ = np.array([UNALTERED, *labels] if self._finds_edits else labels)
        self.categories_ = np.array(CATEGORIES)
        self.device_ = str(options.device)
        self.history_: list[dict[str, Any]] = []
        self.training_report_: dict[str, Any] = {
            "n_clips": len(corpus),
            "n_speakers": len(np.unique(speakers)),
            "is_simulated": truth is None,
        }
        self._check_networks()
        self.models_ = self._train(corpus, truth, speakers, seed, options)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Labels of each clip: those of which the probability reaches the threshold.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_labels) or (n_clips,)
            0 or 1 for each of `labels_`, 'unaltered' where there is no other; for an ordinary classifier the class.
        """
        proba = self.predict_proba(X)
        return predicted_labels(proba, self.thresholds_) if self._finds_edits else self.classes_[proba.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label in each clip.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_labels)
            Float32, in the order of `labels_`; rows of a classifier of edits do not add up to 1.
        """
        return _stack_probabilities(self.analyze(X, locate=False))

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-odds of each label in each clip.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_labels)
            Float32, in the order of `labels_`; of two classes one column, as scikit-learn has it.
        """
        check_is_fitted(self)
        if self._finds_edits:
            proba = self.predict_proba(X).astype(np.float64).clip(1e-7, 1 - 1e-7)
            return np.log(proba / (1 - proba)).astype(np.float32)
        logits = np.stack([clip.logits for clip in self.analyze(X, locate=False)]).astype(np.float32)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_category(self, X: Any) -> np.ndarray:
        """Categories of the edits of each clip.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, 6)
            1 where any edit of the category in `categories_` was found, else 0.
        """
        self._check_finds_edits("predict_category")
        found = self.predict(X)[:, 1:]
        own = np.array([[TAXONOMY[label].category == category for category in CATEGORIES] for label in self._columns])
        return (found @ own > 0).astype(np.int64)

    def transform(self, X: Any) -> np.ndarray:
        """Embeddings of each clip, means over its windows.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        ndarray of shape (n_clips, n_embeddings)
            Float32; with ``model='features'`` the statistics.
        """
        return np.stack([clip.embedding for clip in self.analyze(X, locate=False)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the embeddings: their window and a number.

        Parameters
        ----------
        input_features : object, default=None
            Not used; here for scikit-learn.

        Returns
        -------
        ndarray of str objects
            Names such as ``window4.05_0``.
        """
        check_is_fitted(self)
        sizes = {seconds: fitted.model.embedding_dim for seconds, fitted in self.models_.items()}
        return np.array([f"window{s:g}_{i}" for s, size in sizes.items() for i in range(size)], dtype=object)

    def score(self, X: Any, y: Any = None) -> float:
        """How well edits are told apart.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.
        y : sequence, default=None
            What is known of them, as in `fit`. `None` takes them as unedited and edits them by an
            `EditSimulator` as it comes with this `edits` and audio, always by the same seed, so that the candidates of
            a search are asked the same, whatever `simulator` they have. To choose that, ask about clips of which the
            edits are known: ``scoring=lambda detector, X, y: detector.score(clips, records)``.

        Returns
        -------
        float
            Mean over the labels, without 'unaltered', of the average precision; of an ordinary classifier the
            accuracy.
        """
        check_is_fitted(self)
        if not self._finds_edits:
            return float(accuracy_score(y, self.predict(X)))
        if y is None:
            corpus = clips_of(self, X, RATE, self.sample_rate, reset=False)
            X, y = self._default_simulator(random_state=_SCORE_SEED).simulate(corpus, self.n_jobs)
            proba = self.predict_proba(AudioCorpus(X, sample_rate=RATE))
        else:
            proba = self.predict_proba(X)
        indicators = label_matrix(truth_of(y, len(proba), [self._columns, *self._orders()]), self._columns)
        return float(np.nanmean(per_label_scores(average_precision_score, indicators, proba)[1:]))

    def predict_proba_per_window(self, X: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Probability of each label in each window.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        list of (ndarray of shape (n_windows, 2), ndarray of shape (n_windows, n_labels))
            Of each clip the windows' starts and ends in seconds, and what `predict_proba` would say of them;
            with several lengths of windows, of the shortest.
        """
        return [(clip.window_spans, clip.window_probabilities) for clip in self.analyze(X, locate=False)]

    def locate(self, X: Any) -> list[list[EditSegment]]:
        """Where the edits are that `predict` finds.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.

        Returns
        -------
        list of list of EditSegment
            Of each clip; each label that is found has one or more.
        """
        self._check_finds_edits("locate")
        return [list(clip.segments) for clip in self.analyze(X)]

    def explain(self, X: Any) -> list[str]:
        """What was found in each clip in words that can be quoted, and what was not looked for.

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
        return [clip.explanation for clip in self.analyze(X)]

    def analyze(self, X: Any, *, locate: bool = True) -> list[ClipAnalysis]:
        """Return all results for each clip: probabilities, detected edits, segments and scores of windows.

        Parameters
        ----------
        X : list, array, DataFrame or AudioCorpus
            Clips, as in `fit`.
        locate : bool, default=True
            Whether to locate the detected edits. Without it, the other results are the same and take less time.

        Returns
        -------
        list of ClipAnalysis
            One for each clip.

        See Also
        --------
        analyze_stream : Analyze one recording of any length.
        """
        check_is_fitted(self)
        corpus = clips_of(self, X, RATE, self.sample_rate, reset=False)
        corpus.on_error = "raise"  # Every clip needs a result.
        n_jobs = effective_n_jobs(self.n_jobs) if self.device_ == "cpu" else 1
        parts = [corpus[part] for part in gen_even_slices(len(corpus), min(n_jobs, len(corpus)))]
        results = Parallel(n_jobs)(delayed(_analyze_clips)(self, part, locate) for part in parts)
        return [analysis for part in results for analysis in part]

    def analyze_stream(self, blocks: Iterable[np.ndarray], *, locate: bool = True) -> ClipAnalysis:
        """Return all results for one recording, which is read block by block.

        Parameters
        ----------
        blocks : iterable of float32 ndarray of shape (n_samples,)
            The recording at 16 kHz. Results do not depend on where it is divided. It is iterated once for each
            window length, so an iterator or generator is refused.
        locate : bool, default=True
            Whether to locate the detected edits.

        Returns
        -------
        ClipAnalysis
            The results.

        Raises
        ------
        TypeError
            If `blocks` is an iterator.

        See Also
        --------
        analyze : Analyze clips in any form that `fit` accepts.
        """
        check_is_fitted(self)
        if iter(blocks) is blocks:
            raise TypeError(
                f"blocks is an iterator of type {type(blocks).__name__}, which can be read only once. Pass a list, or "
                "an object whose __iter__ starts again."
            )
        return self._build_analysis(self._scan_clip(blocks, locates=locate))

    # Inside --------------------------------------------------------------------------------------

    @property
    def _finds_edits(self) -> bool:
        return isinstance(self.classes_, list)

    def _orders(self) -> list[list[str]]:
        """What the columns of a matrix without names may be."""
        return [list(resolve_ranges(self._simulator().edits)), list(LABELS[1:])]

    def _check_finds_edits(self, method: str) -> None:
        check_is_fitted(self)
        if not self._finds_edits:
            raise AttributeError(f"{method} is of detectors of edits; this one was fitted as a classifier of clips.")

    def _scan_clip(self, blocks: Iterable[np.ndarray], *, locates: bool) -> ScannedClip:
        self._check_hop(min(self.models_))
        return scan_clip(
            blocks,
            self.models_,
            self._columns,
            hop=self.hop,
            rate=RATE,
            thresholds=self.thresholds_[1:] if self._finds_edits else None,
            locates=locates,
        )

    def _build_analysis(self, scan: ScannedClip) -> ClipAnalysis:
        labels = self.labels_.tolist()
        if not self._finds_edits:
            return build_analysis(scan, labels, None, None, None)
        return build_analysis(scan, labels, self._unaltered, self.thresholds_, self.recalls_)

    def _told(self, clip: ScannedClip) -> tuple[dict[str, float], list[str], str]:
        analysis = self._build_analysis(clip)
        return analysis.probabilities, list(analysis.labels), analysis.explanation

    def __sklearn_is_fitted__(self):
        return hasattr(self, "models_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.classifier_tags.multi_label = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _analyze_clips(detector: VoiceEditDetector, corpus: AudioCorpus, locate: bool) -> list[ClipAnalysis]:
    return [detector.analyze_stream([waveform], locate=locate) for _, waveform in corpus.read()]


def _stack_probabilities(analyses: list[ClipAnalysis]) -> np.ndarray:
    return np.array([list(analysis.probabilities.values()) for analysis in analyses], np.float32)
