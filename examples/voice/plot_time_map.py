"""
Where did a moment of the original go?
======================================

Cuts and time stretches move everything that follows. How can annotations of the original, such as the times of words,
be moved to the edited clip? The record of an edited clip has a :class:`~mmestim.voice.TimeMap` from seconds of the
original to seconds of the result.
"""

import matplotlib.pyplot as plt
import numpy as np

from mmestim.datasets import load_sample_speech
from mmestim.voice import EditPlan, EditSimulator, TimeMap

# %%
# Two cuts and a time stretch
# ---------------------------
#
# The stretch plays a part of the clip at 0.7 times the speed. Its times refer to the clip after the cuts.

speech = load_sample_speech()
clip, sample_rate = speech.waveform, speech.sample_rate
plan = EditPlan(
    duration=len(clip) / sample_rate,
    sample_rate=sample_rate,
    steps=[
        {"edit": "cut", "cuts": [[1.0, 1.7], [3.0, 3.4]], "fade": 0.005, "place": "any"},
        {"edit": "time_stretch", "rate": 0.7, "engine": "phase_vocoder", "start": 2.6, "end": 4.2},
    ],
)
edited, record = EditSimulator(sample_rate=sample_rate).apply(clip, plan)
time_map = record.time_map
for before, after in zip(time_map.before, time_map.after, strict=True):
    print(f"{before:.3f} s -> {after:.3f} s")

# %%
# Annotations
# -----------
#
# Calling the map moves moments; ``intervals`` moves intervals and leaves out what was cut. The map from the result back
# to the original has the knots in the other order.

words = {"first": (0.4, 0.9), "second": (1.2, 2.0), "third": (3.1, 3.3), "fourth": (4.0, 4.6)}
for word, span in words.items():
    moved = [f"{start:.2f} to {end:.2f} s" for start, end in time_map.intervals(*span)]
    print(f"{word}: {span[0]:.2f} to {span[1]:.2f} s -> {', '.join(moved) or 'cut out'}")
inverse = TimeMap(time_map.after, time_map.before)
print(f"at 4.00 s of the result: {inverse(4.0):.2f} s of the original")

# %%
# The map, and a check
# --------------------
#
# If the map is right, the level of the original at mapped times must follow the level of the edited clip.

fig, axes = plt.subplots(2, figsize=(8, 7), sharex=True, layout="constrained")
axes[0].plot(time_map.after, time_map.before, marker="o", label="time map")
axes[0].plot(record.points["cut"], time_map.before[[1, 3]], "rd", label="cut")
axes[0].axvspan(*record.intervals["time_stretch"][0], color="0.9", label="time stretch")
axes[0].set(ylabel="Seconds of the original", title="Time map")
axes[0].legend()


def level(waveform):
    """Return times and the level in dB of frames of 50 ms."""
    n_samples = round(0.05 * sample_rate)
    frames = waveform[: len(waveform) // n_samples * n_samples].reshape(-1, n_samples)
    return 0.05 * (np.arange(len(frames)) + 0.5), 20 * np.log10(np.sqrt(np.mean(frames**2, axis=1)) + 1e-4)


times, edited_level = level(edited)
original_level = np.interp(inverse(times), *level(clip))
axes[1].plot(times, edited_level, label="edited clip")
axes[1].plot(times, original_level, "--", label="original at mapped times")
axes[1].set(xlabel="Seconds of the edited clip", ylabel="Level in dB", ylim=(-70, 0), title="Level")
axes[1].legend(ncols=2)
plt.show()
print(f"correlation of the levels: {np.corrcoef(edited_level, original_level)[0, 1]:.3f}")

# %%
# The vertical parts of the map are the cuts, and the flatter part is the stretch. Only the end of the second word
# remains, the third is cut out, and the fourth is longer by the factor 1 / 0.7. The levels agree throughout, also in
# the stretched part, so the map is right.
