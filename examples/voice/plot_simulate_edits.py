"""
Simulate edits with exact records
=================================

What does an edited recording look like, and where exactly are its edits? An :class:`~mmestim.voice.EditPlan` lists
the edits of a clip. :class:`~mmestim.voice.EditSimulator` applies it and returns a record of the labels and places in
the result. The clip is a synthesized stand-in for speech.
"""

import matplotlib.pyplot as plt
import numpy as np

from mmestim import EditTimelineDisplay
from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice.localization import record_segments

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
# A plan of three edits
# ---------------------
#
# An edit takes the parameters of its class in ``mmestim.voice.EDITS``. Times in a step are in seconds of the clip as it
# is before that step.

clip = synthesize_speech(np.random.default_rng(0), seconds=5.0)
plan = EditPlan(
    duration=5.0,
    sample_rate=SAMPLE_RATE,
    steps=[
        {"edit": "cut", "cuts": [[1.0, 1.6]], "fade": 0.005, "place": "any"},
        {"edit": "low_pass", "cutoff": 1200.0, "slope": 48, "family": "butterworth", "start": 1.8, "end": 2.8},
        {"edit": "background_noise", "kind": "white", "snr": 5.0, "start": 3.2, "end": 4.2},
    ],
)
edited, record = EditSimulator().apply(clip, plan)

print(f"duration: {len(clip) / SAMPLE_RATE:.2f} s before, {record.duration:.2f} s after")
print("labels:", record.labels)
print("points:", record.points)
print("intervals:", record.intervals)

# %%
# Before and after
# ----------------
#
# The spectrogram of the edited clip is above one lane per label, with the places of the record.

fig, axes = plt.subplots(2, figsize=(8, 7), layout="constrained")
EditTimelineDisplay.from_segments([], clip, sample_rate=SAMPLE_RATE, ax=axes[0])
EditTimelineDisplay.from_segments(record_segments(record), edited, sample_rate=SAMPLE_RATE, ax=axes[1])
plt.show()

# %%
# Random edits of many clips
# --------------------------
#
# Without a plan, the simulator draws the edits and their parameters. Every record contains the plan that was drawn, so
# any clip can be made again.

rng = np.random.default_rng(1)
clips = [synthesize_speech(rng, seconds=3.0) for _ in range(5)]
simulator = EditSimulator(["cut", "speed_change", "low_pass", "telephone", "echo"], n_edits=(0, 3), random_state=0)
waveforms, records = simulator.simulate(clips)
for record in records:
    print(f"clip {record.clip}: {record.duration:.2f} s, {', '.join(record.labels)}")
again, _ = simulator.apply(clips[0], records[0].plan, clips)
print("same samples:", np.array_equal(again, waveforms[0]))

# %%
# The low-pass filter and the noise are visible in the spectrogram exactly where the record has them. The cut at 1 s
# leaves no visible gap: the sound before it continues with the sound 0.6 s later. Random edits range from none to
# three in a clip.
