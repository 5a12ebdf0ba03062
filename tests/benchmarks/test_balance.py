"""The smallest runs of benchmarks/balance.py: their files, reports and continuation."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ESTIMATORS = ["joint-concat", "late", "udi-aligned"]


@pytest.fixture(scope="module")
def balance():
    sys.path.insert(0, str(BENCHMARKS))  # lets the scripts import each other
    yield importlib.import_module("balance")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def run(balance, tmp_path, capsys):
    def call(*args, seeds=2):
        small = ["--data-sets", "digits", "--seeds", str(seeds), "--set", "max_epochs=1", "--out", str(tmp_path)]
        assert balance.main([*small, "--estimators", *ESTIMATORS, *args]) == 0
        return capsys.readouterr().out

    return call


def test_a_call_writes_lines_a_table_and_a_plot(run, tmp_path):
    printed = run()
    table = (tmp_path / "balance.md").read_text()
    assert table in printed
    assert "digits: the joint network wastes" in printed
    assert all(f"| {name} " in table for name in ESTIMATORS)
    assert len((tmp_path / "balance.csv").read_text().splitlines()) == 1 + 2 * len(ESTIMATORS)
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")


def test_a_later_call_fits_only_what_is_missing(run, tmp_path):
    first = run()
    path = tmp_path / "balance.csv"
    lines = path.read_text().splitlines()
    assert "6 of 6 runs are in" in run()
    assert path.read_text().splitlines() == lines

    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40] + "\n")  # as after a full disk
    again = run()
    assert "[1/1]" in again
    assert path.read_text().splitlines()[-1].split(",")[:9] == lines[-1].split(",")[:9]
    assert [line[:60] for line in again.splitlines()[-3:]] == [line[:60] for line in first.splitlines()[-3:]]

    assert "[3/3]" in run(seeds=3)
    assert "[6/6]" in run("--fresh")
    assert "[6/6]" in run("--set", "max_epochs=1", "batch_size=128")  # other parameters make other runs
    assert "[6/6]" in run("--split", "validation")
    assert (tmp_path / "balance-validation.md").exists()


def test_each_modality_may_be_the_anchor(run, tmp_path):
    run("--anchors", seeds=1)
    fields = [line.split(",") for line in (tmp_path / "balance.csv").read_text().splitlines()]
    anchors = {line[1]: line[8] for line in fields[1:]}
    assert anchors["udi-aligned@pixels"] == "pixels"
    assert anchors["udi-aligned@fourier"] == "fourier"


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


def test_test_rows_are_used_neither_for_training_nor_for_validation(balance):
    y = np.arange(120) % 3
    test = np.arange(120) >= 90
    groups = np.repeat(list("abcd"), 30)
    for task in (
        balance.Task(Bunch(target=y), ~test, test, 40),
        balance.Task(Bunch(target=y), ~test, test, 40, groups=groups),
    ):
        for seed in range(4):
            fitted, scored = task.rows(seed, "test")
            assert len(fitted) == 40
            assert not test[fitted].any()
            np.testing.assert_array_equal(scored, np.flatnonzero(test))
            fitted, scored = task.rows(seed, "validation")
            assert len(fitted) == 40
            assert not test[np.union1d(fitted, scored)].any()
            assert set(fitted).isdisjoint(scored)
    assert {groups[scored][0] for scored in (task.rows(seed, "validation")[1] for seed in range(3))} == {"a", "b", "c"}
    assert set(groups[fitted]).isdisjoint(groups[scored])


def results(**estimators):
    """Return results of three seeds from the accuracy with all modalities and with the image of each estimator."""
    return [
        {
            "data_set": "d",
            "estimator": name.replace("_", "-"),
            "seed": seed,
            "fit_seconds": 1.0,
            "accuracy": accuracy + offset,
            "alone": {"audio": 0.8, "image": image},
            "probe": {"audio": 0.8, "image": image},
        }
        for name, (accuracy, image) in estimators.items()
        for seed, offset in enumerate([0.0, 0.02, 0.001 * len(name)])
    ]


@pytest.mark.parametrize(
    "joint, udi, expected",
    [
        ((0.7, 0.4), (0.9, 0.6), ["wastes image", "does not waste it", "+20", "points."]),
        ((0.9, 0.4), (0.7, 0.6), ["wastes image", "does not waste it", "-20", "points."]),
        ((0.8, 0.6), (0.8, 0.6), ["wastes no modality significantly", "which is not significant"]),
        ((0.8, 0.4), (0.8, 0.4), ["wastes image", "is not significantly better", "which is not significant"]),
    ],
)
def test_the_conclusion_matches_the_numbers(balance, joint, udi, expected):
    text = balance.conclusion(results(joint_concat=joint, late=(0.8, 0.6), udi_aligned=udi), "udi-aligned")
    assert [part for part in expected if part not in text] == []


def test_the_table_shows_losses_and_counts_ties_separately(balance):
    runs = results(joint_concat=(0.8, 0.5), late=(0.8, 0.5))
    for result, accuracy in zip(runs, [0.8, 0.8, 0.8, 0.8, 0.9, 0.7], strict=True):
        result["accuracy"] = accuracy
    table = balance.markdown(runs, {"d": "A note."}, "udi-aligned", "test")
    late = next(line for line in table.splitlines() if line.startswith("| late"))
    # The t quantile of two degrees of freedom, 4.303, times 10 points over the root of three seeds.
    assert [cell.strip() for cell in late.split("|")[2:6]] == ["3", "80.0 ± 24.8", "+0.0 ± 24.8", "1, 1, 1"]


def test_settings_are_chosen_on_validation_rows(balance, tmp_path, capsys):
    small = ["--data-sets", "digits", "--seeds", "1", "--set", "max_epochs=2", "--out", str(tmp_path)]
    assert balance.main([*small, "--estimators", "joint:OGM", "joint-concat", "late", "--tune"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split(",") for line in (tmp_path / "balance.csv").read_text().splitlines()[1:]]
    tuning_lines = [line for line in lines if line[3] == "validation"]
    assert len(tuning_lines) == 9  # three settings, three seeds
    accuracy = {
        config: np.mean([float(line[5]) for line in tuning_lines if line[4] == config])
        for config in {line[4] for line in tuning_lines}
    }
    (tested,) = [line[4] for line in lines if line[1] == "joint:OGM" and line[3] == "test"]
    assert accuracy[tested] == max(accuracy.values())
    default = next(line[4] for line in tuning_lines)
    assert "Settings of 1 estimators were chosen from three each on validation rows of 3 seed(s)." in printed
    assert ("Different from the default" in printed) == (tested != default)


def test_the_overview_is_on_common_seeds(balance):
    runs = results(joint_concat=(0.8, 0.5), late=(0.9, 0.5))
    runs += [{**run, "data_set": "e"} for run in runs]
    runs.append({**runs[-1], "seed": 7, "accuracy": 0.1})  # of late only
    table = balance.markdown(runs, {"d": "", "e": ""}, "udi-aligned", "test")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert lines[0] == ["estimator", "d (3)", "e (3)"]
    assert lines[2] == ["joint-concat", *[f"{100 * np.mean([run['accuracy'] for run in runs[:3]]):.1f}"] * 2]
    assert lines[3] == ["late", "+9.7 ± 1.1", "+9.7 ± 1.1"]


def test_ranks(balance, tmp_path):
    ranks = importlib.import_module("_ranks")
    runs = results(joint=(0.8, 0.5), late=(0.9, 0.5), udi=(0.7, 0.5))
    runs += [{**run, "data_set": "e", "accuracy": 0.5 + 0.1 * (run["estimator"] == "udi")} for run in runs]
    names, table = ranks.ranks(runs)
    assert names == ["joint", "late", "udi"]
    np.testing.assert_array_equal(table, [[2, 1, 3], [2.5, 2.5, 1]])
    # Seeds that are missing for an estimator do not count.
    names, table = ranks.ranks([*runs, {**runs[0], "seed": 7, "accuracy": 5.0}])
    np.testing.assert_array_equal(table, [[2, 1, 3], [2.5, 2.5, 1]])
    assert not ranks.draw_ranks(runs, tmp_path / "none.png")
    runs += [{**run, "data_set": "f"} for run in runs[:9]]
    # In the table of Demsar, q of ten estimators is 3.164.
    assert ranks.critical_difference(10, 14) == pytest.approx(3.164 * (110 / 84) ** 0.5, abs=2e-3)
    assert ranks.draw_ranks(runs, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")


def test_settings_cannot_be_chosen_on_the_reported_rows(balance, capsys):
    with pytest.raises(SystemExit):
        balance.main(["--tune", "--split", "validation"])
    assert "--tune chooses on validation rows" in capsys.readouterr().err


def test_every_candidate_setting_is_accepted_and_the_first_is_the_default(balance):
    from sklearn.base import clone

    assert {f"joint:{name}" for name in balance.METHODS} < set(balance.GRIDS)
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
