"""
Which modality is wasted, and would balancing help?
===================================================

Joint training may leave one encoder under-trained without a visible loss of accuracy. :func:`~mmestim.diagnose`
trains the joint network, alternatives to it and each modality alone in every fold, and compares them on held-out
rows. :class:`~mmestim.DiagnosisDisplay` plots the result.
"""

# %%
# Diagnosis of a joint network
# ----------------------------
#
# The data have a strong and a weak modality. We compare with two balancing methods. The joint network with unimodal
# losses and the branches that are trained apart are always included.

import matplotlib.pyplot as plt

from mmestim import DiagnosisDisplay, JointClassifier, diagnose
from mmestim.balancers import MLA, OGM
from mmestim.datasets import make_imbalanced_modalities

data = make_imbalanced_modalities(800, n_classes=10, strength=[5.5, 3.5], n_features=[32, 64], random_state=0)
clf = JointClassifier(data.modalities, encoder="mlp", optimizer="sgd", cv=None, max_epochs=30, random_state=0)
diagnosis = diagnose(clf, data.data, data.target, balancers=[OGM(), MLA()], cv=5)
print(diagnosis)

# %%
# The same as a plot
# ------------------
#
# The first line compares the joint network with training apart and with unimodal losses. The grey bar of a modality
# spans from the accuracy of a linear probe of its encoder inside the joint network to the accuracy of a probe of the
# same encoder trained alone.

DiagnosisDisplay.from_diagnosis(diagnosis)
plt.show()

# %%
# Numbers for further use
# -----------------------
#
# ``wasted`` and ``gains`` hold differences of accuracies with half the width of their simultaneous 95 % intervals.

for name, (lack, half_width) in diagnosis.wasted.items():
    print(f"encoder of {name!r} lacks {100 * lack:.1f} ± {100 * half_width:.1f} points")
for name, (gain, half_width) in diagnosis.gains.items():
    print(f"{name}: {100 * gain:+.1f} ± {100 * half_width:.1f} points")

# %%
# The encoder of the weak modality is under-trained: it lacks about ten points of accuracy. Yet the joint network loses
# little, because the strong modality decides most rows. Training apart and unimodal losses each gain about a point,
# with intervals above zero. Neither balancing method is shown to help.
