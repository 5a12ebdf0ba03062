"""Use an installed mmestim without its source and its extras."""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

import mmestim
from mmestim.datasets import load_digit_views

digits = load_digit_views(views=["pixels", "fourier"])
X_train, X_test, y_train, y_test = train_test_split(digits.data, digits.target, random_state=0)
clf = mmestim.UDIClassifier(digits.modalities, shapes=digits.shapes, max_epochs=3, cv=3, random_state=0)
accuracy = clf.fit(X_train, y_train).score(X_test, y_test)
if accuracy < 0.9:
    raise SystemExit(f"accuracy {accuracy:.3f} of UDI on digits")
with tempfile.TemporaryDirectory() as folder:
    mmestim.save(clf, Path(folder) / "digits.mme")
    loaded = mmestim.load(Path(folder) / "digits.mme")
np.testing.assert_array_equal(loaded.predict_proba(X_test), clf.predict_proba(X_test))
print(f"mmestim {mmestim.__version__}: accuracy {accuracy:.3f} of UDI on digits, also after saving and loading")
