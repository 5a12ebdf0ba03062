"""
Simulate edits with exact records
=================================

What does an edited recording look like, and where exactly are its edits? An :class:`~mmestim.voice.EditPlan` lists
the edits of a clip. :class:`~mmestim.voice.EditSimulator` applies it and returns a record of the labels and places in
the result.
"""

import matplotlib.pyplot as plt
import numpy as np

from mmestim import EditTimelineDisplay
from mmestim.datasets import load_sample_speech
from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice.localization import record_segments

# %%
# A plan of three edits
# ---------------------
#
# An edit takes the parameters of its class in ``mmestim.voice.EDITS``. Times in a step are in seconds of the clip as it
# is before that step.

speech = load_sample_speech()
sample_rate = speech.sample_rate
clip = speech.waveform[: 5 * sample_rate]
plan = EditPlan(
    duration=5.0,
    sample_rate=sample_rate,
    steps=[
        {"edit": "cut", "cuts": [[1.0, 1.6]], "fade": 0.005, "place": "any"},
        {"edit": "low_pass", "cutoff": 1200.0, "slope": 48, "family": "butterworth", "start": 1.8, "end": 2.8},
        {"edit": "background_noise", "kind": "white", "snr": 5.0, "start": 3.2, "end": 4.2},
    ],
)
edited, record = EditSimulator(sample_rate=sample_rate).apply(clip, plan)

print(f"duration: {len(clip) / sample_rate:.2f} s before, {record.duration:.2f} s after")
print("labels:", record.labels)
print("points:", record.points)
print("intervals:", record.intervals)

# %%
# Before and after
# ----------------
#
# The spectrogram of the edited clip is above one lane per label, with the places of the record.

fig, axes = plt.subplots(2, figsize=(8, 7), layout="constrained")
EditTimelineDisplay.from_segments([], clip, sample_rate=sample_rate, ax=axes[0])
EditTimelineDisplay.from_segments(record_segments(record), edited, sample_rate=sample_rate, ax=axes[1])
plt.show()

# %%
# Random edits of many clips
# --------------------------
#
# Without a plan, the simulator draws the edits and their parameters. Every record contains the plan that was drawn, so
# any clip can be made again.

clips = np.array_split(speech.waveform, 4)
edits = ["cut", "speed_change", "low_pass", "telephone", "echo"]
simulator = EditSimulator(edits, n_edits=(0, 3), sample_rate=sample_rate, random_state=0)
waveforms, records = simulator.simulate(clips)
for record in records:
    print(f"clip {record.clip}: {record.duration:.2f} s, {', '.join(record.labels)}")
again, _ = simulator.apply(clips[0], records[0].plan, clips)
print("same samples:", np.array_equal(again, waveforms[0]))

# %%
# The low-pass filter and the noise are visible in the spectrogram exactly where the record has them. The cut at 1 s
# leaves no visible gap: the sound before it continues with the sound 0.6 s later. Random edits range from none to
# three in a clip.
