"""
Locate edits in a recording
===========================

Which part of a recording was edited? A detector that is trained on short windows returns segments with a label, a
start, an end and a probability. We compare them with the true places on a clip that is a synthesized stand-in for
speech.
"""

import matplotlib.pyplot as plt
import numpy as np

from mmestim import EditTimelineDisplay, VoiceEditDetector
from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice.localization import record_segments
from mmestim.voice.metrics import segment_f1

SAMPLE_RATE = 16_000


def synthesize_speech(rng, seconds):
    """Return a stand-in for speech: harmonics of a moving pitch with moving formants, in syllables, and noise."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE

    def curve(low, high, knots_per_second):
        knots = np.arange(0, seconds + 1, 1 / knots_per_second)
        return np.interp(t, knots, rng.uniform(low, high, len(knots))).astype(np.float32)

    pitch = rng.uniform(90, 220) * curve(0.85, 1.2, 3)
    phase = (2 * np.pi * np.cumsum(pitch, dtype=float) / SAMPLE_RATE % (2 * np.pi)).astype(np.float32)
    formants = [curve(300, 800, 5), curve(900, 2300, 5), curve(2300, 3200, 5)]
    voice = np.zeros(len(t), np.float32)
    for k in range(1, 41):
        gain = 0.05 + sum(np.exp(-(((k * pitch - formant) / 200) ** 2)) for formant in formants)
        voice += gain / k**0.5 * np.sin(k * phase) * (k * pitch < 7500)
    vowels, consonants = (np.clip(curve(low, 1, 7), 0, 1) for low in (-0.5, -1.5))
    waveform = vowels * voice + (0.3 * consonants + 0.003) * rng.normal(size=len(t))
    return (0.07 * waveform / waveform.std()).astype(np.float32)


# %%
# A detector with short windows
# -----------------------------
#
# The segments of ``model="features"`` are the windows that show an edit, so short windows that overlap much locate
# edits more exactly.

rng = np.random.default_rng(0)
clips = [synthesize_speech(rng, seconds=3.0) for _ in range(30)]
detector = VoiceEditDetector(
    ["low_pass", "background_noise", "telephone"], window=0.6, hop=0.1, model="features", n_clips=300, random_state=0
).fit(clips)

# %%
# A recording with two edited parts
# ---------------------------------

clip = synthesize_speech(rng, seconds=8.0)
plan = EditPlan(
    duration=8.0,
    sample_rate=SAMPLE_RATE,
    steps=[
        {"edit": "low_pass", "cutoff": 1500.0, "slope": 48, "family": "butterworth", "start": 1.0, "end": 3.0},
        {"edit": "background_noise", "kind": "white", "snr": 0.0, "start": 5.0, "end": 7.0},
    ],
)
edited, record = EditSimulator().apply(clip, plan)
analysis = detector.analyze([edited])[0]
for label, threshold in analysis.thresholds.items():
    print(f"{label:16} probability {analysis.probabilities[label]:.2f}, threshold {threshold:.2f}")
segments = list(analysis.segments)
print(f"located: {[segment.label for segment in segments]}, F1 {segment_f1([record], [segments]):.2f}")

# %%
# Lower thresholds
# ----------------
#
# Thresholds keep false alarms rare, and the longer a recording, the more windows must show an edit. Where a missed
# edit costs more than a false alarm, set lower ones.

detector.thresholds_[1:] = 0.6
more_segments = detector.locate([edited])[0]
for segment in more_segments:
    print(f"{segment.label:16} {segment.start:.2f} to {segment.end:.2f} s, probability {segment.score:.2f}")
print(f"F1 {segment_f1([record], [more_segments]):.2f}")

# %%
# True and located segments
# -------------------------
#
# ``EditTimelineDisplay.from_estimator(detector, edited)`` would locate and plot in one step.

panels = {
    "True segments": record_segments(record),
    "Located with the thresholds of the detector": segments,
    "Located with lower thresholds": more_segments,
}
fig, axes = plt.subplots(3, figsize=(8, 9), layout="constrained")
for ax, (title, panel_segments) in zip(axes, panels.items(), strict=True):
    EditTimelineDisplay.from_segments(panel_segments, edited, sample_rate=SAMPLE_RATE, ax=ax)
    ax.set_title(title)
plt.show()

# %%
# Probabilities of the windows
# ----------------------------
#
# The segments come from the probability of each window.

spans, proba = detector.predict_proba_per_window([edited])[0]
fig, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
for label in record.labels:
    column = detector.labels_.tolist().index(label)
    (line,) = ax.plot(spans.mean(axis=1), proba[:, column], label=label)
    ax.axvspan(*record.intervals[label][0], color=line.get_color(), alpha=0.15)
ax.set(xlabel="Centre of the window in seconds", ylabel="Probability", title="True segments are shaded")
ax.legend()
plt.show()

# %%
# With the thresholds of the detector, the filtered part is located exactly and the noise is missed. Its windows have
# probabilities of about 0.9, but only a quarter of the windows show it, so its probability in the whole recording is
# lower. Lower thresholds find both edits with segments that are up to 0.3 s too long on either side, and add a false
# segment of ``low_pass`` within the noise.
