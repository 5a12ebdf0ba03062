"""
Scan files and write a report
=============================

Which of these recordings were edited, and how do I hand the result on? We scan four files with the detector that
comes with the package, and write the results as an HTML page and as a table.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile

from mmestim import VoiceEditDetector
from mmestim.datasets import load_sample_speech
from mmestim.voice import EditPlan, EditSimulator, scan_files, write_report, write_results

# %%
# Four files
# ----------
#
# The first is a spoken sentence, the second the same at a higher pitch, and the third the second by telephone. The
# fourth is a chord without speech.

speech = load_sample_speech()
sample_rate = speech.sample_rate
steps = [
    {"edit": "pitch_shift", "semitones": 4.0, "engine": "phase_vocoder"},
    {"edit": "telephone", "codec": "gsm"},
]
edited = []
for n_steps in (0, 1, 2):
    plan = EditPlan(duration=len(speech.waveform) / sample_rate, sample_rate=sample_rate, steps=steps[:n_steps])
    edited.append(EditSimulator(sample_rate=sample_rate).apply(speech.waveform, plan)[0])
t = np.arange(4 * sample_rate) / sample_rate
chord = sum(0.05 * np.sin(2 * np.pi * frequency * t) for frequency in (220, 277, 330))

folder = tempfile.TemporaryDirectory()
for name, waveform in zip(["original", "raised", "raised_by_telephone", "chord"], [*edited, chord], strict=True):
    soundfile.write(Path(folder.name) / f"{name}.wav", waveform, sample_rate)

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
        np.arange(len(edits)) + 0.28 * (i - 1),
        [result.analysis.probabilities[label] for label in edits],
        width=0.26,
        label=Path(result.path).name,
    )
ax.step(np.arange(len(edits)), [scanned[0].analysis.thresholds[label] for label in edits], "k--", where="mid")
ax.set_xticks(np.arange(len(edits)), edits, rotation=60, ha="right")
ax.set(ylabel="Probability", ylim=(0, 1), title="Probability of each edit (dashed: threshold)")
ax.legend(loc="upper center")
plt.show()

# %%
# The original is clean, and the pitch shift is found. Through the telephone, its probability stays below the threshold:
# "processing only" does not prove that the content is genuine. The chord gets no verdict.
