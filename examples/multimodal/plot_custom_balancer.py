"""
A balancing method of your own
==============================

How do I try an idea for balanced training without a training loop of my own? A balancing method is a subclass of
:class:`~mmestim.balancers.Balancer` that overrides the hooks that it needs. We write one, compare it with
:class:`~mmestim.balancers.OGM`, and plot what both recorded.
"""

# %%
# The method
# ----------
#
# In every batch, ``outputs.mean_scores`` holds the probability that each modality gives to the true class. The encoder
# of the leading modality gets smaller gradients, the more it leads. ``unimodal = "split"`` requests the logits of
# single modalities. ``training.record`` stores values, whose means per epoch are in ``balance_history_``.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim import JointClassifier
from mmestim.balancers import OGM, Balancer
from mmestim.datasets import make_imbalanced_modalities


class ScoreRatio(Balancer):
    """Gradients of each encoder multiplied by the lowest score over its own score, to a power."""

    unimodal = "split"

    def __init__(self, power=1.0):
        self.power = power

    def after_backward(self, training, outputs):
        """Scale the gradients of the encoders."""
        scores = outputs.mean_scores
        factors = (scores.min() / scores) ** self.power
        for name, factor in zip(training.names, factors, strict=True):
            training.scale_gradients(name, factor)
        training.record("coefficient", factors)


# %%
# Comparison with OGM
# -------------------
#
# Methods that scale gradients need SGD, because AdamW divides by the size of past gradients. A logistic regression on
# the features of the weak modality measures its encoder. Each method is fitted with three seeds.

data = make_imbalanced_modalities(1000, n_classes=10, strength=[5.5, 3.5], n_features=[32, 64], random_state=0)
X_test, y_test = data.model.sample(5000, random_state=1)
probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
histories = {}
for balancer in [None, OGM(), ScoreRatio(), ScoreRatio(power=2.0)]:
    fused, weak = [], []
    for seed in range(3):
        clf = JointClassifier(
            data.modalities,
            balancer=balancer,
            encoder="mlp",
            optimizer="sgd",
            cv=None,
            early_stopping=False,
            max_epochs=25,
            random_state=seed,
        ).fit(data.data, data.target)
        fused.append(clf.score(X_test, y_test))
        is_weak = np.char.startswith(clf.get_feature_names_out().astype(str), "weak")
        probe.fit(clf.transform(data.data)[:, is_weak], data.target)
        weak.append(probe.score(clf.transform(X_test)[:, is_weak], y_test))
    print(f"{balancer!s:22} accuracy: fused {np.mean(fused):.3f}, probe of the weak encoder {np.mean(weak):.3f}")
    if balancer is not None:
        histories[str(balancer)] = clf.balance_history_[0]["coefficient"]

# %%
# What the methods did
# --------------------
#
# Records have one row per epoch and one column per modality, in alphabetical order.

fig, ax = plt.subplots(layout="constrained")
for name, coefficients in histories.items():
    ax.plot(range(1, len(coefficients) + 1), coefficients[:, 0], label=name)
ax.set(xlabel="Epoch", ylabel="Factor on the gradients", ylim=(0, 1.05), title="Mean factor of the encoder of 'strong'")
ax.legend()
plt.show()

# %%
# All methods improve the encoder of the weak modality. OGM slows the strong encoder from the first epoch on, improves
# the weak one most, and costs more than a point of fused accuracy. The new method slows it gradually, and its fused
# accuracy is within half a point of the one without balancing.
