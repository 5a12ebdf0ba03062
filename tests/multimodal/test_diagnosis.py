"""diagnose: its measurements in each fold, and its report; GradientConflict."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy.stats import t
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from torch.nn import functional as F

import mmestim
from mmestim import Diagnosis, DiagnosisDisplay, JointClassifier, LateFusionClassifier, diagnose, gap_scores
from mmestim.balancers import OGM, GradientConflict

GROUPS = {"text": slice(4, 8), "audio": slice(0, 4)}
FAST = {"cv": None, "max_epochs": 5, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data(draw_modalities):
    """Two modalities, of which the second is stronger and the first is absent from 20 rows."""
    X, y = draw_modalities(120, (1.0, 3.0))
    X[:20, :4] = np.nan
    return X, np.array(["red", "green", "blue"])[y]


@pytest.fixture(scope="module")
def diagnosis(data):
    """Diagnosis of three folds."""
    return diagnose(JointClassifier(GROUPS, **FAST), *data, cv=3)


def test_measurements_equal_those_of_separate_fits(diagnosis, data):
    X, y = data
    assert diagnosis.modalities == ["text", "audio"]
    for fold, (train, test) in enumerate(StratifiedKFold(3).split(X, y)):
        joint = JointClassifier(GROUPS, **FAST).fit(X[train], y[train])
        assert diagnosis.joint[fold] == pytest.approx(joint.score(X[test], y[test]))
        losses = JointClassifier(GROUPS, unimodal_weight=1.0, **FAST).fit(X[train], y[train])
        assert diagnosis.alternatives["with unimodal losses"][fold] == pytest.approx(losses.score(X[test], y[test]))
        late = LateFusionClassifier(GROUPS, **FAST).fit(X[train], y[train])
        assert diagnosis.alternatives["trained apart"][fold] == pytest.approx(late.score(X[test], y[test]))
        for classifier, accuracies in ((joint, diagnosis.inside[fold]), (late, diagnosis.alone[fold])):
            for column, probabilities in enumerate(classifier.predict_proba_per_modality(X[test]).values()):
                is_present = ~np.isnan(probabilities[:, 0])
                is_correct = classifier.classes_[probabilities.argmax(1)] == y[test]
                assert accuracies[column] == pytest.approx(is_correct[is_present].mean())
        np.testing.assert_allclose(diagnosis.scores[test], gap_scores(joint, X[test], y[test]), atol=1e-6)
    assert diagnosis.inside_probe.shape == diagnosis.alone_probe.shape == diagnosis.contributions.shape == (3, 2)
    assert (diagnosis.inside_probe[:, 0] > 0.7).all()
    assert np.isnan(diagnosis.scores[:20, 1]).all()


def test_intervals_are_over_the_folds(diagnosis):
    differences = diagnosis.alone_probe[:, 1] - diagnosis.inside_probe[:, 1]
    mean, half_width = diagnosis.wasted["audio"]
    assert mean == pytest.approx(differences.mean())
    assert half_width == pytest.approx(t.ppf(1 - 0.025 / 2, 2) * differences.std(ddof=1) / 3**0.5)  # two modalities
    gains = diagnosis.alternatives["trained apart"] - diagnosis.joint
    assert diagnosis.gains["trained apart"][0] == pytest.approx(gains.mean())
    assert diagnosis.interval(np.array([0.5, np.nan])) == (0.5, pytest.approx(np.nan, nan_ok=True))


def make_diagnosis(joint, apart, inside, alone):
    """Return a diagnosis of four folds whose accuracies vary by half a point around the given ones."""
    deviation = np.array([-0.005, 0.0, 0.0, 0.005])

    def per_fold(value):
        return value + deviation

    return Diagnosis(
        modalities=["text", "audio"],
        joint=per_fold(joint),
        alternatives={"with unimodal losses": per_fold(joint) - deviation[::-1], "trained apart": per_fold(apart)},
        inside=np.full((4, 2), 0.5),
        alone=np.full((4, 2), 0.5),
        inside_probe=np.column_stack([per_fold(0.9), per_fold(inside)]),
        alone_probe=np.column_stack([per_fold(0.9), per_fold(alone) + deviation]),
        contributions=np.full((4, 2), 0.3),
        scores=np.array([[0.5, 0.5]]),
        analyzer=None,
        conflict={},
    )


@pytest.mark.parametrize(
    "joint, apart, inside, alone, expected_phrases",
    [
        (
            0.8,
            0.9,
            0.5,
            0.7,
            ["Under-trained: audio, whose encoder lacks 20.0", "Another way of training would help: trained apart"],
        ),
        (0.8, 0.7, 0.5, 0.7, ["Under-trained: audio", "No other way of training is shown to help"]),
        (0.8, 0.8, 0.7, 0.5, ["No modality is under-trained for certain", "No other way of training is shown to help"]),
    ],
)
def test_verdict_follows_the_measurements(joint, apart, inside, alone, expected_phrases):
    text = str(make_diagnosis(joint, apart, inside, alone))
    assert [part for part in expected_phrases if part not in text] == []
    assert "Under-trained: text" not in text


def test_report_and_dict_contain_the_measurements(diagnosis):
    text = str(diagnosis)
    assert all(name in text for name in ("text", "audio", "joint network", "trained apart", "Modality gap", "cosine"))
    stored = json.loads(json.dumps(diagnosis.to_dict()))
    assert stored["joint"] == diagnosis.joint.tolist()
    assert stored["wasted"]["audio"][0] == diagnosis.wasted["audio"][0]
    assert stored["gap"]["means"] == diagnosis.analyzer.means_.tolist()


def test_display_shows_the_measurements(diagnosis):
    plt = pytest.importorskip("matplotlib.pyplot")
    display = DiagnosisDisplay.from_diagnosis(diagnosis, ax=plt.subplots()[1])
    for name, table in (("inside the joint network", diagnosis.inside), ("linear probe alone", diagnosis.alone_probe)):
        np.testing.assert_allclose(display.points_[name][0].get_xdata(), 100 * np.nanmean(table, axis=0))
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["all modalities", "text", "audio"]
    plt.close(display.figure_)


@pytest.mark.parametrize("n_methods", [0, 1, 12])
def test_display_shows_every_alternative(diagnosis, n_methods):
    plt = pytest.importorskip("matplotlib.pyplot")
    alternatives = {f"method {number}": diagnosis.joint + number / 100 for number in range(n_methods)}
    other = copy.copy(diagnosis)
    other.alternatives = alternatives
    display = DiagnosisDisplay.from_diagnosis(other)
    drawn = {name: display.points_[name][0].get_xdata()[0] for name in alternatives}
    assert drawn == pytest.approx({name: 100 * values.mean() for name, values in alternatives.items()})
    assert all(display.points_[name][0].get_ydata()[0] < 0.5 for name in alternatives)
    plt.close(display.figure_)


def test_int_cv_keeps_groups_whole(data, monkeypatch):
    held_out_groups, original = [], mmestim.multimodal.diagnosis._diagnose_fold
    monkeypatch.setattr(
        "mmestim.multimodal.diagnosis._diagnose_fold",
        lambda *args: (held_out_groups.append(args[3][args[6]]), original(*args))[1],
    )
    groups = np.arange(120) % 10
    diagnose(JointClassifier(GROUPS, **FAST | {"max_epochs": 1}), *data, cv=3, groups=groups)
    assert sum(len(set(held_out)) for held_out in held_out_groups) == 10  # no group in two folds


def test_all_networks_use_one_seed(data):
    one, other = (
        diagnose(JointClassifier(GROUPS, **FAST | {"random_state": np.random.RandomState(0)}), *data, cv=2, n_jobs=n)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one.alternatives["trained apart"], other.alternatives["trained apart"])
    np.testing.assert_array_equal(one.joint, other.joint)


def test_groups_stay_whole_and_a_given_balancer_is_used(data):
    X, y = data
    groups = np.arange(120) % 10
    diagnosis = diagnose(
        JointClassifier(GROUPS, balancer=mmestim.balancers.OGM(), **FAST | {"max_epochs": 2}),
        X,
        y,
        cv=GroupKFold(2),
        groups=groups,
    )
    assert diagnosis.conflict == {}
    assert len(diagnosis.joint) == 2
    assert "cosine" not in str(diagnosis)


def test_one_modality_has_no_gap(data):
    X, y = np.nan_to_num(data[0]), data[1]
    diagnosis = diagnose(JointClassifier(**FAST | {"max_epochs": 2}), X, y, cv=2)
    assert (diagnosis.analyzer, diagnosis.conflict, diagnosis.modalities) == (None, {}, ["x"])
    assert "a single modality: nothing to balance" in str(diagnosis)


def test_invalid_input_raises(data):
    with pytest.raises(TypeError, match="training of a JointClassifier"):
        diagnose(LateFusionClassifier(GROUPS), *data)
    with pytest.raises(ValueError, match="hold out every row once"):
        diagnose(JointClassifier(GROUPS), *data, cv=ShuffleSplit(2))
    with pytest.raises(ValueError, match="confidence_level=2"):
        diagnose(JointClassifier(GROUPS), *data, confidence_level=2)


def test_conflict_is_the_cosine_of_the_two_gradients(data, monkeypatch):
    expected = []
    original = GradientConflict._measure

    def measure(self, training, outputs):
        batch, cosines = outputs.batch, []
        for name in training.names:
            is_present = positions = outputs.present[training.names.index(name)]
            grads = [
                torch.cat(
                    [g.flatten() for g in torch.autograd.grad(loss, training.parameters[name], retain_graph=True)]
                )
                for loss in (
                    F.cross_entropy(outputs.logits, batch.y),
                    F.cross_entropy(outputs.unimodal[name][is_present], batch.y[positions]),
                )
            ]
            cosines.append(F.cosine_similarity(*grads, dim=0).item())
        expected.append(cosines)
        original(self, training, outputs)

    monkeypatch.setattr(GradientConflict, "_measure", measure)
    clf = JointClassifier(GROUPS, balancer=GradientConflict(), **FAST).fit(*data)
    assert len(expected) == 5  # once an epoch
    np.testing.assert_allclose(clf.balance_history_[0]["cosine"], expected, atol=1e-5)
    assert (clf.balance_history_[0]["norm_ratio"] > 0).all()


@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_measuring_conflict_does_not_change_training(fusion, data):
    X, y = data
    plain = JointClassifier(GROUPS, fusion=fusion, **FAST).fit(X, y)
    measured = JointClassifier(GROUPS, fusion=fusion, balancer=GradientConflict(), **FAST).fit(X, y)
    np.testing.assert_allclose(measured.predict_proba(X), plain.predict_proba(X), atol=1e-6)


def test_balancers_are_alternatives(data):
    diagnosis = diagnose(JointClassifier(GROUPS, **FAST), *data, balancers=[OGM(alpha=0.5)], cv=2)
    train, test = next(iter(StratifiedKFold(2).split(*data)))
    clf = JointClassifier(GROUPS, balancer=OGM(alpha=0.5), **FAST).fit(data[0][train], data[1][train])
    assert diagnosis.alternatives["OGM(alpha=0.5)"][0] == clf.score(data[0][test], data[1][test])
    assert "OGM(alpha=0.5)" in str(diagnosis)
    with pytest.raises(TypeError, match="balancers has 'OGM'"):
        diagnose(JointClassifier(GROUPS, **FAST), *data, balancers=["OGM"])


def test_contributions_of_many_modalities_are_nan(data):
    columns = {f"m{i}": [i] for i in range(8)}
    diagnosis = diagnose(JointClassifier(columns, **FAST), data[0][20:], data[1][20:], cv=2)
    assert np.isnan(diagnosis.contributions).all()
    assert "m7" in str(diagnosis)


def test_folds_without_a_class_raise(data):
    X, y = data
    order = y.argsort(kind="stable")
    with pytest.raises(ValueError, match="leaves no row of class 'red' to train on in fold 2"):
        diagnose(JointClassifier(GROUPS, **FAST), X[order], y[order], cv=KFold(3))


def test_missing_rows_raise(data):
    with pytest.raises(TypeError, match="X=None"):
        diagnose(JointClassifier(GROUPS, **FAST), None, data[1])
