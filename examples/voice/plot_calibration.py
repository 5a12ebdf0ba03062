"""
Calibration of a detector
=========================

If a detector gives an edit a probability of 70 %, is it there in 70 % of the cases? We train a small detector, and
compare its probabilities on simulated clips of other voices with the observed frequencies. The clips are synthesized
stand-ins for speech.
"""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.preprocessing import MultiLabelBinarizer

from mmestim.voice import EditSimulator, VoiceEditDetector
from mmestim.voice.metrics import expected_calibration_error, per_label_scores

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
# A detector of three edits
# -------------------------
#
# The detector calibrates the probabilities of each label on windows of a quarter of the voices. It trains on the
# others.

rng = np.random.default_rng(0)
clips = [synthesize_speech(rng, seconds=2.0) for _ in range(30)]
edits = ["mp3", "equalizer", "background_noise"]
detector = VoiceEditDetector(edits, window=2.0, model="features", n_clips=300, random_state=0).fit(clips)

# %%
# Held-out clips
# --------------
#
# Each test clip is edited eight times by a simulator with the settings of training, so that the share of each edit is
# the same. Clips in which an edit is inaudible are left out.

test_clips = [synthesize_speech(rng, seconds=2.0) for _ in range(30)] * 8
waveforms, records = EditSimulator(edits, random_state=1).simulate(test_clips)
pairs = [(waveform, record) for waveform, record in zip(waveforms, records, strict=True) if not record.inaudible]
waveforms, records = zip(*pairs, strict=True)
labels = detector.labels_.tolist()
y_true = MultiLabelBinarizer(classes=labels).fit_transform([record.labels for record in records])
y_prob = detector.predict_proba(list(waveforms))

# %%
# Reliability diagram
# -------------------
#
# The expected calibration error (ECE) is the mean distance of the points from the diagonal, weighted by their numbers
# of clips. Both use five bins of equal width.

errors = per_label_scores(partial(expected_calibration_error, n_bins=5), y_true, y_prob)
fig, ax = plt.subplots(figsize=(7, 6), layout="constrained")
for k, label in enumerate(labels):
    CalibrationDisplay.from_predictions(
        y_true[:, k], y_prob[:, k], n_bins=5, name=f"{label}, ECE {errors[k]:.3f}", ax=ax
    )
ax.set(title=f"Reliability of the probabilities on {len(records)} clips")
plt.show()
for label, error, frequency, mean in zip(labels, errors, y_true.mean(axis=0), y_prob.mean(axis=0), strict=True):
    print(f"{label:16} ECE {error:.3f}, frequency {frequency:.2f}, mean probability {mean:.2f}")

# %%
# On the whole, higher probabilities go with higher frequencies, four to eleven percentage points from the diagonal on
# average. MP3 is closest to it. The equalizer and noise are present more often than predicted, and unedited clips less
# often. The calibration rests on windows of about eight voices, and bins of few clips exaggerate the error.
