"""
Where did a moment of the original go?
======================================

Cuts and time stretches move everything that follows. How can annotations of the original, such as the times of words,
be moved to the edited clip? The record of an edited clip has a :class:`~mmestim.voice.TimeMap` from seconds of the
original to seconds of the result.
"""

import matplotlib.pyplot as plt
import numpy as np

from mmestim.voice import EditPlan, EditSimulator, TimeMap

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
# Two cuts and a time stretch
# ---------------------------
#
# The stretch plays a part of the clip at 0.7 times the speed. Its times refer to the clip after the cuts.

clip = synthesize_speech(np.random.default_rng(0), seconds=6.0)
plan = EditPlan(
    duration=6.0,
    sample_rate=SAMPLE_RATE,
    steps=[
        {"edit": "cut", "cuts": [[1.0, 1.7], [3.0, 3.4]], "fade": 0.005, "place": "any"},
        {"edit": "time_stretch", "rate": 0.7, "engine": "phase_vocoder", "start": 2.6, "end": 4.2},
    ],
)
edited, record = EditSimulator().apply(clip, plan)
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
    frames = waveform[: len(waveform) // 800 * 800].reshape(-1, 800)
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
