"""scikit-learn's estimator checks of the classifiers."""

import inspect

import pytest
from sklearn.utils import _testing, estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier

# Older releases of scikit-learn cannot require that a check fails.
STRICT = {"xfail_strict": True} if "xfail_strict" in inspect.signature(parametrize_with_checks).parameters else {}
TWO = {"a": slice(0, 1), "v": slice(1, None)}
MINI_BATCHES = "mini-batches: a weight of 2 differs from two copies of a row in different batches"
EXPECTED_FAILED = {
    "check_sample_weight_equivalence_on_dense_data": MINI_BATCHES,
    "check_sample_weight_equivalence_on_sparse_data": MINI_BATCHES,
}
EXPECTED_FAILED_TWO = {
    "check_estimators_pickle": "puts NaN inside a block, which the classifiers reject",
    "check_estimators_pickle(readonly_memmap=True)": "puts NaN inside a block, which the classifiers reject",
}


@pytest.fixture
def float32_tolerance(monkeypatch):
    """Let float32 results near zero differ by a rounding error, which depends on the size of the batch."""

    def assert_allclose(*args, atol=0.0, **kwargs):
        _testing.assert_allclose(*args, atol=max(atol, 1e-6), **kwargs)

    monkeypatch.setattr(estimator_checks, "assert_allclose", assert_allclose)


def expected_failed_checks(estimator):
    return EXPECTED_FAILED if estimator.modalities is None else EXPECTED_FAILED | EXPECTED_FAILED_TWO


@parametrize_with_checks(
    [
        classifier(modalities, cv=cv, max_epochs=8, lr=0.01, random_state=0)
        for classifier in (JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier)
        for modalities, cv in ((None, None), (TWO, 2))
    ],
    expected_failed_checks=expected_failed_checks,
    **STRICT,
)
@pytest.mark.usefixtures("float32_tolerance")
def test_estimator_checks(estimator, check):
    check(estimator)
