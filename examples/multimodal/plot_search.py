"""
Hyper-parameter search
======================

How do I search the parameters of a multimodal classifier with scikit-learn's tools? A
:class:`~mmestim.SliceDict` of blocks of any shape works in :class:`~sklearn.model_selection.GridSearchCV` as it is. In
a :class:`~sklearn.pipeline.Pipeline`, ``X`` is one array, and ``modalities`` names the columns of each block.
"""

# %%
# A search over a dict of blocks
# ------------------------------
#
# Blocks keep their shapes, so images stay images.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer

from mmestim import LateFusionClassifier, SliceDict
from mmestim.datasets import load_digit_views

digits = load_digit_views(views=["pixels", "moments"])
X_train, X_test, y_train, y_test = train_test_split(
    digits.data, digits.target, train_size=600, stratify=digits.target, random_state=0
)


def to_blocks(X):
    """Return the modalities of a table as a dict of blocks."""
    pixels, moments = (X[:, columns] for columns in digits.modalities.values())
    return SliceDict(pixels=pixels.reshape(-1, 8, 8), moments=moments)


clf = LateFusionClassifier(cv=None, max_epochs=10, random_state=0)
search = GridSearchCV(clf, {"lr": [0.002, 0.01]}, scoring="neg_log_loss", cv=3).fit(to_blocks(X_train), y_train)
print(search.best_params_)
print(f"accuracy on test rows: {search.best_estimator_.score(to_blocks(X_test), y_test):.3f}")

# %%
# A search over a Pipeline
# ------------------------
#
# Parameters of the steps have their names as prefixes, and a step itself can be searched. The preprocessing must keep
# the columns, because ``modalities`` selects them by position.

clf = LateFusionClassifier(digits.modalities, encoder="mlp", cv=None, max_epochs=20, random_state=0)
pipeline = Pipeline([("scale", "passthrough"), ("clf", clf)])
grid = {"scale": ["passthrough", QuantileTransformer(n_quantiles=100)], "clf__embedding_dim": [8, 16, 32, 64]}
pipeline_search = GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3).fit(X_train, y_train)
print(pipeline_search.best_params_)
print(f"accuracy on test rows: {pipeline_search.best_estimator_.score(X_test, y_test):.3f}")

# %%
# All candidates
# --------------
#
# ``cv_results_`` holds the scores of every candidate.

results = pd.DataFrame(pipeline_search.cv_results_)
fig, ax = plt.subplots(layout="constrained")
for name, rows in results.groupby(results["param_scale"].astype(str)):
    ax.errorbar(
        rows["param_clf__embedding_dim"].astype(int),
        -rows["mean_test_score"],
        yerr=rows["std_test_score"],
        marker="o",
        capsize=3,
        label=name,
    )
ax.set_xscale("log", base=2)
ax.set_xticks([8, 16, 32, 64], [8, 16, 32, 64])
ax.set(xlabel="embedding_dim", ylabel="Log-loss (mean and deviation over folds)", title="Candidates of the search")
ax.legend(title="scale")
plt.show()

# %%
# The log-loss still falls at the largest dimension, so a further search should include larger ones. The quantile
# transformation does not improve it at 16 dimensions or more.
