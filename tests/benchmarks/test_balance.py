"""The smallest runs of benchmarks/balance.py: their files, splits and continuation."""

import csv
import gzip
import importlib
import os

import numpy as np
import pytest
from sklearn.utils import Bunch

ESTIMATORS = ["joint-concat", "late", "udi-aligned"]
needs_data = pytest.mark.skipif(
    not os.environ.get("MMESTIM_DATA"), reason="MMESTIM_DATA does not name the folder of data sets"
)


@pytest.fixture
def run(balance, tmp_path, capsys):
    def call(*args, seeds=2, more=()):
        small = ["--data-sets", "digits", "--seeds", str(seeds), "--set", "max_epochs=1", "--out", str(tmp_path)]
        assert balance.main([*small, "--estimators", *ESTIMATORS, *more, *args]) == 0
        return capsys.readouterr().out

    return call


def read_lines(folder):
    with gzip.open(folder / "balance.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(folder, change):
    """Change the text of the stored lines."""
    path = folder / "balance.csv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode()))


def test_a_call_writes_lines_a_table_and_a_plot(run, tmp_path):
    printed = run()
    table = (tmp_path / "balance.md").read_text()
    assert table in printed
    assert "digits: the joint network wastes" in printed
    assert all(f"| {name} " in table for name in ESTIMATORS)
    assert len(read_lines(tmp_path)) == 2 * len(ESTIMATORS)
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")


def test_lines_hold_scores_of_all_kinds(run, tmp_path):
    run(seeds=1, more=["logistic"])
    lines = {line["estimator"]: line for line in read_lines(tmp_path)}
    for line in lines.values():
        assert 0 < float(line["accuracy"]) <= 1
        assert float(line["log_loss"]) > 0
        assert 0 < float(line["calibration_error"]) < 1
    for name in ESTIMATORS:
        assert [part.split("=")[0] for part in lines[name]["alone"].split(";")] == ["pixels", "fourier"]
        assert lines[name]["probe"].count("=") == 2
    follower = {"pixels": "fourier", "fourier": "pixels"}[lines["udi-aligned"]["anchor"]]
    assert [part.split("=")[0] for part in lines["udi-aligned"]["guidance"].split(";")] == [
        f"{follower}.consistency",
        f"{follower}.complementarity",
    ]
    assert lines["logistic"]["alone"] == lines["logistic"]["guidance"] == ""


def test_a_later_call_fits_only_what_is_missing(run, tmp_path):
    first = run()
    lines = read_lines(tmp_path)
    assert "6 of 6 runs are in" in run()
    rewrite(tmp_path, lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    again = run()
    assert "[1/1]" in again
    assert read_lines(tmp_path)[-1] | {"fit_seconds": ""} == lines[-1] | {"fit_seconds": ""}
    assert [line[:60] for line in again.splitlines()[-3:]] == [line[:60] for line in first.splitlines()[-3:]]

    assert "[3/3]" in run(seeds=3)
    assert "[3/3]" in run("--fresh", seeds=1)
    assert "[3/3]" in run("--set", "max_epochs=1", "batch_size=128", seeds=1)  # other parameters make other runs
    assert "[3/3]" in run("--split", "validation", seeds=1)
    assert (tmp_path / "balance-validation.md").exists()


def test_lines_of_other_code_are_counted(run, tmp_path):
    run(seeds=1)
    code = read_lines(tmp_path)[0]["code"]
    rewrite(tmp_path, lambda text: text.replace(code, "other", 1))
    printed = run(seeds=1)
    assert "Other code of mmestim computed 1 of them." in printed
    assert "2 states of the package's code" in printed


def test_files_with_other_columns_are_refused(balance, tmp_path):
    (tmp_path / "balance.csv.gz").write_bytes(gzip.compress(b"data_set,estimator\n"))
    with pytest.raises(SystemExit, match="does not have the columns"):
        balance.main(["--data-sets", "digits", "--estimators", "logistic", "--out", str(tmp_path)])


def test_each_modality_may_be_the_anchor(run, tmp_path):
    run("--anchors", seeds=1)
    anchors = {line["estimator"]: line["anchor"] for line in read_lines(tmp_path)}
    assert anchors["udi-aligned@pixels"] == "pixels"
    assert anchors["udi-aligned@fourier"] == "fourier"


@pytest.mark.parametrize("name", ["proof", "balancers", "guidance", "quick"])
def test_profiles_name_what_exists(balance, name):
    args = balance.parse(["--profile", name])
    assert set(args.data_sets) <= set(balance.DATA_SETS)
    assert len(args.estimators) == len(set(args.estimators)) > 3
    assert args.baseline in args.estimators
    if name == "proof":
        assert len(args.data_sets) == 10


def test_data_sets_without_files_are_skipped(balance, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("MMESTIM_DATA", raising=False)
    assert balance.main(["--data-sets", "mfeat", "av-digits", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "mfeat is skipped" in printed
    assert "av-digits is skipped" in printed


@pytest.mark.parametrize("args", [["--estimators", "none"], ["--estimators", "late@pixels"], ["--set", "none=1"]])
def test_unknown_names_are_refused(balance, args, capsys):
    with pytest.raises(SystemExit):
        balance.main(args)
    assert "none" in capsys.readouterr().err


def is_apart(fitted, scored, groups):
    return set(fitted).isdisjoint(scored) and (groups is None or set(groups[fitted]).isdisjoint(groups[scored]))


@pytest.mark.parametrize("groups", [None, np.repeat(list("abcd"), 30)], ids=["rows", "groups"])
def test_fixed_test_rows_are_used_neither_for_training_nor_for_validation(balance, groups):
    y = np.arange(120) % 3
    test = np.arange(120) >= 90
    task = balance.Task(Bunch(target=y), 40, test, groups=groups)
    for seed in range(4):
        fitted, scored = task.rows(seed, "test")
        assert len(fitted) == 40
        assert not test[fitted].any()
        np.testing.assert_array_equal(scored, np.flatnonzero(test))
        fitted, scored = task.rows(seed, "validation")
        assert len(fitted) == 40
        assert not test[np.union1d(fitted, scored)].any()
        assert is_apart(fitted, scored, groups)
    if groups is not None:
        assert {groups[task.rows(seed, "validation")[1]][0] for seed in range(3)} == {"a", "b", "c"}


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(12), 10)], ids=["rows", "groups"])
@pytest.mark.parametrize("n_train", [40, None])
def test_drawn_test_rows_are_apart_from_training_and_validation_rows(balance, groups, n_train):
    y = np.arange(120) % 3
    task = balance.Task(Bunch(target=y), n_train, groups=groups)
    scored_before = []
    for seed in range(4):
        fitted, scored = task.rows(seed, "test")
        assert is_apart(fitted, scored, groups)
        assert set(y[fitted]) == set(y)
        assert len(fitted) == (n_train or 90)
        validation_fitted, validated = task.rows(seed, "validation")
        assert is_apart(validation_fitted, validated, groups)
        assert is_apart(validated, scored, groups)
        assert is_apart(validation_fitted, scored, groups)
        scored_before.append(tuple(scored))
    assert len(set(scored_before)) == 4
    if groups is not None:  # consecutive seeds score every row once
        np.testing.assert_array_equal(np.sort(np.concatenate(scored_before)), np.arange(120))


def test_no_row_is_fitted_that_shares_data_with_a_scored_row(balance):
    task = balance.Task(Bunch(target=np.arange(120) % 3), 40, shared_ids=np.arange(120) // 2)
    for seed in range(4):
        fitted, scored = task.rows(seed, "test")
        assert set(fitted // 2).isdisjoint(scored // 2)


@needs_data
@pytest.mark.parametrize("name", ["ravdess", "emoji", "av-digits-speakers", "msrc"])
def test_real_sets_are_split_by_their_groups(balance, name):
    task = balance.DATA_SETS[name]()
    y = task.data.target
    for seed in range(4):
        fitted, scored = task.rows(seed, "test")
        assert is_apart(fitted, scored, task.groups)
        assert set(y[fitted]) == set(y)
    X = task.columns(fitted)
    assert X.shape == (len(y), max(columns.stop for columns in task.data.modalities.values()))
    assert np.isfinite(X).all()


@needs_data
def test_text_features_are_fitted_to_the_training_rows_alone(balance):
    task = balance.DATA_SETS["emoji"]()
    text = task.data.modalities["text"]
    fitted, _ = task.rows(0, "test")
    X = task.columns(fitted)
    assert X[:, text].std() > 0
    assert not np.allclose(X[:, text], task.columns(fitted[:300])[:, text])
    np.testing.assert_array_equal(task.columns(fitted), X)


def test_references_keep_groups_together_and_summarise_frames(balance):
    references = importlib.import_module("_references")
    y, groups = np.arange(60) % 3, np.repeat(np.arange(4), 15)
    folds = references.inner_folds(y, groups, seed=0)
    assert len(folds) == 4  # no more than groups
    for fitted, scored in folds:
        assert set(groups[fitted]).isdisjoint(groups[scored])
    X = np.random.default_rng(0).normal(size=(60, 12 + 2))
    modalities = {"audio": slice(0, 12), "face": slice(12, 14)}
    data = Bunch(target=y, data=X, modalities=modalities, shapes={"audio": (4, 3)})
    task = balance.Task(data, groups=groups, summarised=("audio",))
    assert references.standardised(task, *modalities).fit_transform(X).shape == (60, 3 + 3 + 2)
    assert references.standardised(task, "face").fit_transform(X).shape == (60, 2)
    for fit in (references.fit_logistic, references.fit_stacked, references.fit_boosting):
        np.testing.assert_allclose(fit(task, X, y, folds).predict_proba(X).sum(axis=1), 1)


def test_calibration_error(balance):
    calibration_error = importlib.import_module("_runs").calibration_error
    proba = np.array([[0.9, 0.1]] * 10 + [[0.3, 0.7]] * 10)
    is_true = np.eye(2, dtype=bool)[[0] * 9 + [1] + [1] * 4 + [0] * 6]
    # The first bin is calibrated; in the second one, 40 % are right at a confidence of 70 %.
    assert calibration_error(proba, is_true) == pytest.approx(0.5 * 0.3)
    assert calibration_error(np.eye(2), np.eye(2, dtype=bool)) == 0
    assert calibration_error(np.eye(2), ~np.eye(2, dtype=bool)) == 1


def test_log_loss_does_not_need_all_classes_on_either_side(balance):
    from sklearn.metrics import log_loss

    ours = importlib.import_module("_references").log_loss
    classes, y = np.array([1, 3, 7]), np.array([3, 1, 3])
    proba = np.random.default_rng(0).dirichlet(np.ones(3), size=3)
    assert ours(proba, classes, y) == pytest.approx(log_loss(y, proba, labels=classes))
    for unseen in (0, 2, 9):
        assert ours(proba[:1], classes, np.array([unseen])) == pytest.approx(15 * np.log(10))


def test_references_choose_where_a_fold_lacks_a_class(balance):
    y = np.repeat([0, 1, 2], 20)
    groups = np.concatenate([np.arange(40) % 4, np.arange(20) // 10])  # two groups have no row of class 2
    X = np.random.default_rng(0).normal(size=(60, 4)) + 3 * np.eye(4)[y]
    data = Bunch(target=y, data=X, modalities={"a": slice(0, 2), "b": slice(2, 4)}, shapes={})
    task, references = balance.Task(data, groups=groups), importlib.import_module("_references")
    folds = references.inner_folds(y, groups, seed=0)
    assert min(len(np.unique(y[scored])) for _, scored in folds) == 2
    for fit in (references.fit_logistic, references.fit_stacked):
        assert fit(task, X, y, folds).score(X, y) > 0.8


def test_settings_are_chosen_on_validation_rows(balance, tmp_path, capsys):
    small = ["--data-sets", "digits", "--seeds", "1", "--set", "max_epochs=2", "--out", str(tmp_path)]
    assert balance.main([*small, "--estimators", "joint:OGM", "joint-concat", "late", "--tune"]) == 0
    printed = capsys.readouterr().out
    lines = read_lines(tmp_path)
    tuning_lines = [line for line in lines if line["split"] == "validation"]
    assert len(tuning_lines) == 9  # three settings, three seeds
    accuracy = {
        config: np.mean([float(line["accuracy"]) for line in tuning_lines if line["config"] == config])
        for config in {line["config"] for line in tuning_lines}
    }
    (tested,) = [line["config"] for line in lines if line["estimator"] == "joint:OGM" and line["split"] == "test"]
    assert accuracy[tested] == max(accuracy.values())
    default = next(line["config"] for line in tuning_lines)
    assert "Settings of 1 estimators were chosen from three each on validation rows of 3 seed(s)." in printed
    assert ("Different from the default" in printed) == (tested != default)


def test_settings_cannot_be_chosen_on_the_reported_rows(balance, capsys):
    with pytest.raises(SystemExit):
        balance.main(["--tune", "--split", "validation"])
    assert "--tune chooses on validation rows" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        balance.main(["--tune"])
    assert "test rows of another seed" in capsys.readouterr().err


def test_every_candidate_setting_is_accepted_and_the_first_is_the_default(balance):
    from sklearn.base import clone

    assert {f"joint:{name}" for name in importlib.import_module("_estimators").METHODS} < set(balance.GRIDS)
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    for name, grid in balance.GRIDS.items():
        assert len(grid) == len({repr(setting) for setting in grid}) == 3
        defaults = balance.ESTIMATORS[name].get_params()
        assert {key: defaults[key] for key in grid[0]} == grid[0]
        for setting in grid[1:]:
            model = clone(balance.ESTIMATORS[name]).set_params(max_epochs=1, **setting)
            if name == "joint:ReconBoost":
                model.set_params(balancer__stage_epochs=1, balancer__rectify_epochs=0, max_epochs=2)
            if name == "joint:GradientBlending":
                model.set_params(balancer__n_epochs=min(2, setting["balancer__n_epochs"]))
            model.set_params(modalities={"a": slice(0, 2), "b": slice(2, 4)}, device="cpu").fit(X, y)
