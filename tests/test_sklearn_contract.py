"""scikit-learn's own checks of an estimator."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier

TWO = {"a": slice(0, 1), "v": slice(1, None)}
MINI_BATCHES = "mini-batches: a weight of two is not the same as two copies in different batches"
EXPECTED_FAILED = {
    "check_sample_weight_equivalence_on_dense_data": MINI_BATCHES,
    "check_sample_weight_equivalence_on_sparse_data": MINI_BATCHES,
}
EXPECTED_FAILED_TWO = {
    "check_estimators_pickle": "scatters NaN inside a block, which is refused on purpose",
    "check_estimators_pickle(readonly_memmap=True)": "scatters NaN inside a block, which is refused on purpose",
}


def expected_failed_checks(estimator):
    return EXPECTED_FAILED if estimator.modalities is None else EXPECTED_FAILED | EXPECTED_FAILED_TWO


@parametrize_with_checks(
    [
        classifier(modalities, random_state=0)
        for classifier in (JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier)
        for modalities in (None, TWO)
    ],
    expected_failed_checks=expected_failed_checks,
    xfail_strict=True,
)
def test_estimator_checks(estimator, check):
    check(estimator)
