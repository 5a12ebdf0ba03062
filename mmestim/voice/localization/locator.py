"""Locator of the edits of one recording, from the outputs of its windows and frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from .._audio.windowing import OverlapAverager, Window
from .._window_labels import FRAME_SECONDS
from ..segments import EditSegment, sort_segments
from ..taxonomy import SPLICED_LABELS, TAXONOMY
from .interval_tracker import IntervalTracker
from .point_tracker import PointTracker
from .window_tracker import WindowTracker

# An interval ends where its odds fall below a third of the odds that begin one.
_HYSTERESIS = np.log(3.0)
_MIN_INTERVAL_SECONDS = 0.25
_MIN_GAP_SECONDS = 0.4
_MIN_POINT_DISTANCE_SECONDS = 0.1
# Splice points that are farther apart are not paired.
_MAX_SPLICE_SECONDS = 3.0


class SegmentLocator:
    """Locator of the edits of one recording, which receives its windows in order.

    Parameters
    ----------
    labels : list of str
        Labels of the windows' log-odds.
    thresholds : ndarray of shape (n_labels,)
        Lowest probability at which a window has a label.
    frame_thresholds : ndarray of shape (n_maps,) or None
        Lowest probability at which a frame has the label of a map: first the maps of the splice points, then those of
        the labels. None for models without frames; segments are then as wide as their windows.
    rate : int
        Samples per second.
    """

    def __init__(
        self, labels: list[str], thresholds: np.ndarray, frame_thresholds: np.ndarray | None, rate: int
    ) -> None:
        self.labels, self.rate = labels, rate
        self._window_tracker: WindowTracker | None = None
        self._interval_tracker: IntervalTracker | None = None
        self._point_tracker: PointTracker | None = None
        if frame_thresholds is None:
            self._window_tracker = WindowTracker(labels, thresholds)
        else:
            self._track_frames(frame_thresholds)
        self._averager: OverlapAverager | None = None
        self._segments: list[EditSegment] = []
        self._best_logits = np.full(len(labels), -np.inf)
        self._best_spans = np.zeros((len(labels), 2))  # start and end of the window with the best logit of each label
        self._latest_time = 0.0

    def add(self, window: Window, logits: np.ndarray, frames: np.ndarray | None) -> None:
        """Process the next window.

        Parameters
        ----------
        window : Window
            The window.
        logits : ndarray of shape (n_labels,)
            Its log-odds.
        frames : ndarray of shape (n_maps, n_frames) or None
            The log-odds of its frames, if the model has frames.
        """
        start, end = window.start / self.rate, (window.start + window.length) / self.rate
        is_better = logits > self._best_logits
        self._best_logits, self._best_spans[is_better] = np.maximum(self._best_logits, logits), (start, end)
        if self._window_tracker is not None:
            self._window_tracker.add(start, end, expit(logits))
            return
        assert frames is not None
        if self._averager is None:
            self._averager = OverlapAverager(len(frames))
        first = round(start / FRAME_SECONDS)
        n_real_frames = 1 + int(end / FRAME_SECONDS - first + 1e-6)  # without frames after the end of the recording
        self._feed_frames(*self._averager.add(first, frames[:, :n_real_frames]))

    def finish(self, duration: float, detected: Sequence[str], probabilities: np.ndarray) -> list[EditSegment]:
        """Return the segments of the labels that were detected in the recording, at least one for each.

        Parameters
        ----------
        duration : float
            Duration of the recording in seconds.
        detected : sequence of str
            Labels that were detected in the recording.
        probabilities : ndarray of shape (n_labels,)
            Probability of each label in the recording.

        Returns
        -------
        list of EditSegment
            The segments, sorted by time.
        """
        if self._window_tracker is not None:
            self._segments = self._window_tracker.finish()
        if self._averager is not None:
            self._feed_frames(*self._averager.finish())
        for tracker in (self._interval_tracker, self._point_tracker):
            if tracker is not None:
                # Rounding may put the latest frame after the end of the recording.
                self._segments += tracker.finish(max(duration, self._latest_time))
        segments = [segment for segment in _join_splice_points(self._segments) if segment.label in detected]
        located = {segment.label for segment in segments}
        for label in detected:
            if label in self.labels and label not in located:
                column = self.labels.index(label)
                start, end = (0.0, duration) if "clip" in TAXONOMY[label].scopes else self._best_spans[column]
                probability = float(probabilities[column])
                segments.append(EditSegment.from_label(label, float(start), float(min(end, duration)), probability))
        return sort_segments(segments)

    def _track_frames(self, thresholds: np.ndarray) -> None:
        """Create the trackers of frames: of splice points for labels that only these reveal, else of intervals."""
        point_labels = [label for label in SPLICED_LABELS if label in self.labels and _is_revealed_by_splices(label)]
        interval_labels = [label for label in self.labels if label not in point_labels]
        self._interval_columns = [self.labels.index(label) for label in interval_labels]
        self._point_columns = [SPLICED_LABELS.index(label) for label in point_labels]
        if interval_labels:
            onset = thresholds[len(SPLICED_LABELS) :][self._interval_columns]
            self._interval_tracker = IntervalTracker(
                interval_labels,
                onset=onset,
                offset=expit(np.log(onset / (1 - onset)) - _HYSTERESIS),
                min_duration_on=_MIN_INTERVAL_SECONDS,
                min_duration_off=_MIN_GAP_SECONDS,
            )
        if point_labels:
            self._point_tracker = PointTracker(
                point_labels, threshold=thresholds[self._point_columns], min_distance=_MIN_POINT_DISTANCE_SECONDS
            )

    def _feed_frames(self, first: int, frames: np.ndarray) -> None:
        """Feed the averaged frames, of which the first has this number, to the trackers."""
        if not frames.shape[1]:
            return
        times, scores = (first + np.arange(frames.shape[1])) * FRAME_SECONDS, expit(frames.T)
        self._latest_time = float(times[-1])
        if self._interval_tracker is not None:
            content_scores = scores[:, len(SPLICED_LABELS) :]
            self._segments += self._interval_tracker.feed(times, content_scores[:, self._interval_columns])
        if self._point_tracker is not None:
            self._segments += self._point_tracker.feed(times, scores[:, self._point_columns])


def _is_revealed_by_splices(label: str) -> bool:
    return TAXONOMY[label].revealed_by == "splice points"


def _join_splice_points(segments: Iterable[EditSegment]) -> Iterator[EditSegment]:
    """Yield the segments, with every two splice points of an interval joined into one segment."""
    openings: dict[str, EditSegment] = {}
    for segment in sort_segments(segments):
        if not segment.is_point or TAXONOMY[segment.label].acts_on == "points":
            yield segment
            continue
        opening = openings.pop(segment.label, None)
        if opening is not None and segment.start - opening.start <= _MAX_SPLICE_SECONDS:
            yield replace(opening, end=segment.start, score=max(opening.score, segment.score))
        else:
            openings[segment.label] = segment
