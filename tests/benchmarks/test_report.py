"""Tables, ranks, aims and conclusions of benchmarks/balance.py from given results."""

import importlib

import numpy as np
import pytest


def results(**estimators):
    """Return results of three seeds from the accuracy with all modalities and with the image of each estimator."""
    return [
        {
            "data_set": "d",
            "estimator": name.replace("_", "-"),
            "seed": seed,
            "fit_seconds": 1.0,
            "accuracy": accuracy + offset,
            "log_loss": 1 - accuracy - offset,
            "calibration_error": 0.1,
            "fusion_weights": {},
            "guidance": {},
            "anchor": "",
            "code": "",
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
    late = cells(balance.markdown(runs, {"d": "A note."}, "test"), "late")[0]
    # The t quantile of two degrees of freedom, 4.303, times 10 points over the root of three seeds.
    assert [late["seeds"], late["accuracy"]] == ["3", "80.0 ± 24.8"]
    assert [late["accuracy minus joint-concat"], late["won, lost, tied"]] == ["+0.0 ± 24.8", "1, 1, 1"]


def cells(report, name):
    """Return the row of an estimator in each table of a report, as a dict from the header."""
    rows, header = [], []
    for line in report.splitlines():
        values = [cell.strip() for cell in line.split("|")[1:-1]]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = values
        elif values[0] == name:
            rows.append(dict(zip(header, values, strict=True)))
    return rows


def test_tables_compare_with_the_best_reference_and_the_own_best_branch(balance):
    runs = results(joint_concat=(0.7, 0.5), late=(0.8, 0.85), logistic=(0.75, 0.5), boosting=(0.6, 0.5))
    for run in runs:
        if run["estimator"] in ("logistic", "boosting"):
            run["alone"] = run["probe"] = {}
        if run["estimator"] == "boosting":
            run["log_loss"] = 0.01  # the best in log-loss only
        if run["estimator"] == "late":
            run |= {"fusion_weights": {"audio": 0.5, "image": 2.0}, "guidance": {"image.consistency": 0.3}}
            run |= {"anchor": "audio"}
    report = balance.markdown(runs, {"d": ""}, "test")
    scores, modalities, audio, image = cells(report, "late")
    assert scores["accuracy minus best scikit-learn (logistic)"].startswith("+4.9")
    assert scores["log-loss minus best scikit-learn (boosting)"].startswith("+0.18")
    assert scores["accuracy minus own best branch"].startswith("-4.2")
    assert modalities["image"] == "85.0 (85.0)"
    assert list(audio.values())[1:] == ["audio", "0.50", "", "", "3"]
    assert list(image.values())[1:] == ["image", "2.00", "0.30", "", ""]
    scores, modalities = cells(report, "logistic")
    assert scores["accuracy minus best scikit-learn (logistic)"] == scores["accuracy minus own best branch"] == ""
    assert modalities["image"] == ""


def aims_of(**estimators):
    """Return the outcomes of the aims, in their order, and the text."""
    estimators = {"stacked": (0.7, 0.5), "boosting": (0.7, 0.5), **estimators}
    runs = [run | {"data_set": name} for name in "def" for run in results(**estimators)]
    lines = importlib.import_module("_aims").aims(runs)
    return [line[2:6] for line in lines if line.startswith("- ")], "\n".join(lines)


def test_aims_are_computed(balance):
    good = {"late": (0.9, 0.5), "udi": (0.9, 0.5), "logistic": (0.8, 0.5), "joint_concat": (0.8, 0.5)}
    assert aims_of(**good)[0] == ["pass"] * 5
    outcomes, text = aims_of(**good | {"logistic": (0.95, 0.5)})
    assert outcomes == ["FAIL", "FAIL", "FAIL", "pass", "pass"]
    assert "not behind: logistic" in text
    assert "udi on f -5." in text
    outcomes, text = aims_of(**good | {"udi": (0.9, 0.95)})
    assert outcomes == ["pass", "pass", "pass", "FAIL", "pass"]
    assert "udi on d -4." in text
    assert "late on d" not in text
    outcomes, text = aims_of(**good | {"joint_concat": (0.5, 0.2)})
    assert outcomes == ["pass", "pass", "pass", "pass", "FAIL"]
    assert "joint-concat on e, seed 1: 52.0" in text
    assert importlib.import_module("_aims").aims(results(late=(0.9, 0.5), udi=(0.9, 0.5))) == []


def test_the_overview_is_on_common_seeds(balance):
    runs = results(joint_concat=(0.8, 0.5), late=(0.9, 0.5))
    runs += [{**run, "data_set": "e"} for run in runs]
    runs.append({**runs[-1], "seed": 7, "accuracy": 0.1})  # of late only
    table = balance.markdown(runs, {"d": "", "e": ""}, "test")
    ranks, differences, log_losses = cells(table, "late")[:3]
    assert ranks["mean rank in accuracy"] == ranks["mean rank in log-loss"] == "1.00"
    assert list(differences) == ["estimator", "d (3)", "e (3)"]
    assert list(differences.values()) == ["late", "+9.7 ± 1.1", "+9.7 ± 1.1"]
    assert log_losses["d (3)"].startswith("0.09")
    baseline = f"{100 * np.mean([run['accuracy'] for run in runs[:3]]):.1f}"
    assert list(cells(table, "joint-concat")[1].values()) == ["joint-concat", baseline, baseline]


def test_ranks(balance, tmp_path):
    ranks = importlib.import_module("_ranks")
    runs = results(joint=(0.8, 0.5), late=(0.9, 0.5), udi=(0.7, 0.5))
    runs += [{**run, "data_set": "e", "accuracy": 0.5 + 0.1 * (run["estimator"] == "udi")} for run in runs]
    names, table = ranks.ranks(runs)
    assert names == ["joint", "late", "udi"]
    np.testing.assert_array_equal(table, [[2, 1, 3], [2.5, 2.5, 1]])
    log_loss = importlib.import_module("_results").LOG_LOSS
    np.testing.assert_array_equal(ranks.ranks([r | {"log_loss": r["accuracy"]} for r in runs], log_loss)[1], 4 - table)
    # Seeds that are missing for an estimator do not count.
    names, table = ranks.ranks([*runs, {**runs[0], "seed": 7, "accuracy": 5.0}])
    np.testing.assert_array_equal(table, [[2, 1, 3], [2.5, 2.5, 1]])
    assert not ranks.draw_ranks(runs, tmp_path / "none.png")
    runs += [{**run, "data_set": "f"} for run in runs[:9]]
    # In the table of Demsar, q of ten estimators is 3.164.
    assert ranks.critical_difference(10, 14) == pytest.approx(3.164 * (110 / 84) ** 0.5, abs=2e-3)
    assert ranks.draw_ranks(runs, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")
