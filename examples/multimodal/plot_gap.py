"""
Is my data imbalanced?
======================

On how many rows does one modality recognise the class much better than the other, and which rows are these? We score
two views of handwritten digits out of fold with :func:`~mmestim.gap_scores`, fit the mixture of balanced and
imbalanced rows with :class:`~mmestim.ModalityGapAnalyzer`, and plot both with
:class:`~mmestim.ModalityGapDisplay`.
"""

# %%
# Scores of the true class
# ------------------------
#
# The first view consists of the pixels, the second of the magnitudes of their Fourier transform. Each row is scored by
# a network that has not seen it, because a network that has memorised its rows has no gap left.

import matplotlib.pyplot as plt
import numpy as np

from mmestim import LateFusionClassifier, ModalityGapAnalyzer, ModalityGapDisplay, gap_scores
from mmestim.datasets import load_digit_views

digits = load_digit_views(views=["pixels", "fourier"])
clf = LateFusionClassifier(digits.modalities, cv=None, max_epochs=25, random_state=0)
scores = gap_scores(clf, digits.data, digits.target, cv=4)
for name, score in zip(digits.modalities, scores.mean(axis=0), strict=True):
    print(f"{name}: mean probability of the true class {score:.2f}")

# %%
# Two groups of rows
# ------------------
#
# ``bimodal_`` and ``n_peaks_`` show whether the gaps form two groups at all.

analyzer = ModalityGapAnalyzer().fit(scores)
print("mean gap of balanced and imbalanced rows:", analyzer.means_.round(2).tolist())
print("fraction of the rows:", analyzer.weights_.round(2).tolist())
print("two Gaussians fit better:", analyzer.bimodal_, "| peaks:", analyzer.n_peaks_)
print("separation:", round(analyzer.separation_, 2))

display = ModalityGapDisplay.from_scores(scores, analyzer=analyzer, modality_names=list(digits.modalities))
plt.show()

# %%
# The rows behind the gap
# -----------------------
#
# The posterior marks single rows, so it can be summarised by class.

is_imbalanced = analyzer.predict(scores)
fractions = [is_imbalanced[digits.target == digit].mean() for digit in range(10)]
fig, ax = plt.subplots(layout="constrained")
ax.bar(np.arange(10), fractions)
ax.set(xlabel="Digit", ylabel="Fraction of imbalanced rows", xticks=range(10), title="Imbalanced rows by class")
plt.show()

# %%
# The data are imbalanced in part: about two rows of five belong to the group with the larger gap, and in three quarters
# of all rows the pixels have the higher score. Nearly all zeros are balanced, but almost two thirds of the nines are
# not, so the Fourier magnitudes need the help of the pixels for some classes more than for others.
