"""
Train a detector of a few edits
===============================

How do I train a detector for the edits that matter to me, and how well does it detect each of them?
:class:`~mmestim.voice.VoiceEditDetector` needs unedited clips only, because it simulates the edits itself. The clips
are synthesized stand-ins for speech, so the scores do not describe real recordings.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MultiLabelBinarizer

from mmestim.voice import EditSimulator, VoiceEditDetector
from mmestim.voice.metrics import detection_report, per_label_scores

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
# Training
# --------
#
# ``model="features"`` uses statistics of windows and boosted trees. A quarter of the clips is held out: they calibrate
# the probabilities and set the thresholds.

rng = np.random.default_rng(0)
clips = [synthesize_speech(rng, seconds=3.0) for _ in range(30)]
edits = ["telephone", "low_pass", "echo", "cut"]
detector = VoiceEditDetector(edits, window=2.0, model="features", n_clips=300, random_state=0).fit(clips)
for label, threshold, recall in zip(detector.labels_, detector.thresholds_, detector.recalls_, strict=True):
    print(f"{label:16} threshold {threshold:.2f}, recall on held-out windows {recall:.2f}")

# %%
# Test on other voices
# --------------------
#
# The test clips are of other voices, with at most one edit each. ``detection_report`` has all scores of every label.

test_clips = [synthesize_speech(rng, seconds=3.0) for _ in range(30)] * 4
waveforms, records = EditSimulator(edits, n_edits=(0, 1), random_state=1).simulate(test_clips)
labels = detector.labels_.tolist()
y_true = MultiLabelBinarizer(classes=labels).fit_transform([record.labels for record in records])
y_prob = detector.predict_proba(waveforms)

roc_auc = per_label_scores(roc_auc_score, y_true, y_prob)
report = detection_report(y_true, y_prob, labels, thresholds=detector.thresholds_)
recall = per_label_scores(lambda y, p: p[y == 1].mean(), y_true, detector.predict(waveforms))
print(f"unedited clips with a detected edit: {report['false_alarm_rate']:.3f} of {report['n_unedited']}")

# %%
# Scores by label
# ---------------
#
# The ROC-AUC rates the ranking of the clips, the recall also the threshold.

edit_rows = np.arange(1, len(labels))
fig, ax = plt.subplots(layout="constrained")
ax.barh(edit_rows - 0.2, roc_auc[1:], height=0.35, label="ROC-AUC")
ax.barh(edit_rows + 0.2, recall[1:], height=0.35, label="recall at the threshold")
ax.set_yticks(edit_rows, labels[1:])
ax.invert_yaxis()
ax.set(xlabel="Score on test clips", xlim=(0, 1), title="Detection of each edit")
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %%
# The telephone is detected in all clips that have it, the low-pass filter and the echo in most of them. Cuts are hard.
# Their ranking is better than chance, but few of them exceed a threshold that allows few false alarms.
