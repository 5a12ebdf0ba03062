"""
How much does each modality contribute?
=======================================

Which modality does a fitted classifier rely on, and for which classes?
:func:`~mmestim.modality_contributions` returns the Shapley value of every modality in every row: the probability of
the true class that the modality adds, averaged over all orders in which modalities can be added.
"""

# %%
# Contributions on test rows
# --------------------------
#
# Three views of handwritten digits are the modalities. The rows to explain must not be training rows.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from mmestim import ContributionDisplay, LateFusionClassifier, modality_contributions
from mmestim.datasets import load_digit_views

digits = load_digit_views(views=["pixels", "fourier", "moments"])
X_train, X_test, y_train, y_test = train_test_split(digits.data, digits.target, stratify=digits.target, random_state=0)
clf = LateFusionClassifier(digits.modalities, cv=None, max_epochs=30, random_state=0).fit(X_train, y_train)
print(f"accuracy: {clf.score(X_test, y_test):.3f}")

contributions = modality_contributions(clf, X_test, y_test)
rows = zip(
    contributions.modalities, contributions.contributions_mean, contributions.contributions_interval, strict=True
)
for name, mean, (low, high) in rows:
    print(f"{name:8} {mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f})")

# %%
# The contributions of a row add up to the probability of its true class minus the probability of a random guess.

proba = clf.predict_proba(X_test)[np.arange(len(y_test)), y_test]
print("largest deviation:", f"{np.abs(contributions.contributions.sum(axis=1) - (proba - 0.1)).max():.0e}")

# %%
# Distribution over the rows
# --------------------------

ContributionDisplay.from_contributions(contributions)
plt.show()

# %%
# Contributions by class
# ----------------------

by_class = np.stack([contributions.contributions[y_test == digit].mean(axis=0) for digit in range(10)], axis=1)
fig, ax = plt.subplots(layout="constrained")
for i, (name, values) in enumerate(zip(contributions.modalities, by_class, strict=True)):
    ax.bar(np.arange(10) + 0.28 * (i - 1), values, width=0.26, label=name)
ax.set(xlabel="Digit", xticks=range(10), ylabel="Mean contribution", title="Contributions by class")
ax.legend(ncols=3, loc="upper center")
ax.margins(y=0.15)
plt.show()

# %%
# The pixels contribute most to every digit, and more than both other views together. Brightness moments are only six
# features, but they contribute more than the Fourier magnitudes do to most digits. The digit 8 is the clear exception.
