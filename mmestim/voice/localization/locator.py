"""From windows and frames of a recording to where its edits are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from .._audio.windowing import OverlapAverager, Window
from .._window_labels import FRAME_SECONDS
from ..segments import sort_segments
from ..taxonomy import LABELS, SPLICED_LABELS, TAXONOMY
from . import EditSegment, IntervalTracker, PointTracker

# An interval ends where its odds are below a third of those that begin it.
_RELEASE = np.log(3.0)
_SHORTEST, _GAP, _APART = 0.25, 0.4, 0.1  # seconds
# What is pasted sounds like the rest, so that only its two seams tell it; so far apart they are no more of one.
_LONGEST = 3.0  # seconds


class SegmentLocator:
    """Follows one recording, and says where the labels are that it turns out to have.

    Parameters
    ----------
    labels : list of str
        Columns of the log-odds of windows.
    thresholds : ndarray of shape (n_labels,)
        Probabilities from which a window has a label.
    frame_thresholds : ndarray of shape (n_maps,) or None
        From which a frame has a map: those of the seams, then of the labels. None where there are no frames,
        and windows have to do.
    rate : int
        Samples per second.
    """

    def __init__(
        self, labels: list[str], thresholds: np.ndarray, frame_thresholds: np.ndarray | None, rate: int
    ) -> None:
        self.labels, self.rate = labels, rate
        own = thresholds if frame_thresholds is None else frame_thresholds[len(SPLICED_LABELS) :]
        points = [
            label for label in LABELS if label in labels and _is_tracked_at_points(label, frame_thresholds is not None)
        ]
        lasting = [label for label in labels if label not in points]
        self._columns = [labels.index(label) for label in lasting]
        onset = own[self._columns]
        offset = expit(np.log(onset / (1 - onset)) - _RELEASE)
        self._intervals = (
            IntervalTracker(lasting, onset=onset, offset=offset, min_duration_on=_SHORTEST, min_duration_off=_GAP)
            if lasting
            else None
        )
        self._points, self._uses_frames = None, frame_thresholds is not None
        # Of the windows' log-odds, or of the maps of seams.
        self._of_points = [(SPLICED_LABELS if self._uses_frames else labels).index(label) for label in points]
        if points:
            at = (thresholds if frame_thresholds is None else frame_thresholds)[self._of_points]
            self._points = PointTracker(points, threshold=at, min_distance=_APART)
        self._stitcher: OverlapAverager | None = None
        self._segments: list[EditSegment] = []
        self._best = np.full(len(labels), -np.inf)
        self._where = np.zeros((len(labels), 2))
        self._latest = 0.0

    def add(self, window: Window, logits: np.ndarray, frames: np.ndarray | None) -> None:
        """Take the next window, its log-odds and those of its frames."""
        start, end = window.start / self.rate, (window.start + window.length) / self.rate
        better = logits > self._best
        self._best, self._where[better] = np.maximum(self._best, logits), (start, end)
        if not self._uses_frames or frames is None:
            self._feed(np.array([(start + end) / 2]), logits[None, :], None)
            return
        if self._stitcher is None:
            self._stitcher = OverlapAverager(len(frames))
        first = round(start / FRAME_SECONDS)
        n_real = 1 + int(end / FRAME_SECONDS - first + 1e-6)  # none past the end
        number, done = self._stitcher.add(first, frames[:, :n_real])
        self._feed_frames(number, done)

    def finish(self, duration: float, found: Sequence[str], proba: np.ndarray) -> list[EditSegment]:
        """Segments of the labels that were found in the recording, every one of which has some.

        Parameters
        ----------
        duration : float
            Seconds of the recording.
        found : sequence of str
            Labels.
        proba : ndarray of shape (n_labels,)
            Probability of each label in the recording.
        """
        if self._stitcher is not None:
            self._feed_frames(*self._stitcher.finish())
        for tracker in (self._intervals, self._points):
            if tracker is not None:
                self._segments += tracker.finish(max(duration, self._latest))  # which rounding may put behind it
        segments = [segment for segment in _passages(self._segments) if segment.label in found]
        for label in found:
            if label in self.labels and not any(segment.label == label for segment in segments):
                column = self.labels.index(label)
                start, end = (0.0, duration) if "clip" in TAXONOMY[label].scopes else self._where[column]
                segments.append(
                    EditSegment.from_label(label, float(start), float(min(end, duration)), float(proba[column]))
                )
        return sort_segments(segments)

    def _feed_frames(self, number, done):
        if done.shape[1]:
            times = (number + np.arange(done.shape[1])) * FRAME_SECONDS
            self._latest = float(times[-1])
            self._feed(times, done[len(SPLICED_LABELS) :].T, done[: len(SPLICED_LABELS)].T)

    def _feed(self, times, logits, seams):
        if self._intervals is not None:
            self._segments += self._intervals.feed(times, expit(logits[:, self._columns]))
        if self._points is not None:
            scores = expit((logits if seams is None else seams)[:, self._of_points])
            self._segments += self._points.feed(times, scores)


def _is_tracked_at_points(label, has_frames):
    """Return whether a label is followed at its points or splice points, rather than over its intervals."""
    info = TAXONOMY[label]
    return info.revealed_by == "splice points" if has_frames else info.acts_on == "points"


def _passages(segments):
    """Yield the segments, with every two splice points of an interval joined into one segment."""
    openings: dict[str, EditSegment] = {}
    for segment in sort_segments(segments):
        if not segment.is_point or TAXONOMY[segment.label].acts_on == "points":
            yield segment
            continue
        opening = openings.pop(segment.label, None)
        if opening is not None and segment.start - opening.start <= _LONGEST:
            yield replace(opening, end=segment.start, score=max(opening.score, segment.score))
        else:
            openings[segment.label] = segment
