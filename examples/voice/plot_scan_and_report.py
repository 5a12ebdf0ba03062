"""
Scan files and write a report
=============================

Which of these recordings were edited, and how do I hand the result on? We scan three files with the detector that
comes with the package, and write the results as an HTML page and as a table. The speech-like files are synthesized
stand-ins for recordings, so "synthetic speech" is the right finding for them.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile

from mmestim import VoiceEditDetector
from mmestim.voice import EditPlan, EditSimulator, scan_files, write_report, write_results

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
# Three files
# -----------
#
# The first is speech-like sound, the second the same by telephone and with an echo, the third a chord without speech.

clip = synthesize_speech(np.random.default_rng(0), seconds=4.0)
plan = EditPlan(
    duration=4.0,
    sample_rate=SAMPLE_RATE,
    steps=[
        {"edit": "echo", "delay": 0.2, "gain": 0.5, "n_taps": 2},
        {"edit": "telephone", "codec": "gsm"},
    ],
)
by_telephone, _ = EditSimulator().apply(clip, plan)
t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
chord = sum(0.05 * np.sin(2 * np.pi * frequency * t) for frequency in (220, 277, 330))

folder = tempfile.TemporaryDirectory()
for name, waveform in {"clean": clip, "telephone": by_telephone, "chord": chord}.items():
    soundfile.write(Path(folder.name) / f"{name}.wav", waveform, SAMPLE_RATE)

# %%
# Scan
# ----
#
# ``scan_files`` reads any number of files of any length, and yields a result for each.

detector = VoiceEditDetector.from_pretrained()
results = list(scan_files(detector, [folder.name]))
for result in results:
    print(f"{Path(result.path).name}: {result.verdict}")
    print(f"    {result.summary}")

# %%
# The explanation is a paragraph to quote, with the limits of the detector.

print(results[-1].analysis.explanation)

# %%
# Report and table
# ----------------
#
# The report is one self-contained page with spectrograms, places and sound. The table has one row per segment.
# A segment has its own score, which may differ from the probability of the whole file.

report, table = Path(folder.name) / "report.html", Path(folder.name) / "results.csv"
write_report(results, report, detector)
write_results(results, table)
print(f"{report.name}: {report.stat().st_size / 1024:.0f} KiB")
columns = ["file", "verdict", "label", "start", "end", "score"]
print(pd.read_csv(table)[columns].assign(file=lambda rows: rows["file"].map(lambda file: Path(file).name)).to_string())
folder.cleanup()

# %%
# Probabilities
# -------------
#
# The chord has no probabilities, because it was not analyzed.

fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
scanned = [result for result in results if result.analysis.probabilities]
for i, result in enumerate(scanned):
    edits = [label for label in result.analysis.probabilities if label != "unaltered"]
    ax.bar(
        np.arange(len(edits)) + 0.4 * (i - 0.5),
        [result.analysis.probabilities[label] for label in edits],
        width=0.38,
        label=Path(result.path).name,
    )
ax.step(np.arange(len(edits)), [scanned[0].analysis.thresholds[label] for label in edits], "k--", where="mid")
ax.set_xticks(np.arange(len(edits)), edits, rotation=60, ha="right")
ax.set(ylabel="Probability", ylim=(0, 1), title="Probability of each edit (dashed: threshold)")
ax.legend(loc="upper center")
plt.show()

# %%
# The detector recognises that the clean file is synthetic, and names the telephone and the echo of the second file. The
# chord gets no verdict. The second file is synthetic as well, but after the echo and the telephone its probability of
# synthetic speech is low: "processing only" does not prove that the content is genuine.
