"""Claims of README and of the pages about measurements, checked against the stored results."""

import hashlib
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from mmestim import balancers
from mmestim.voice import CATEGORIES, LABELS
from mmestim.voice.pretrained import pretrained_file

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
WORDS = {2: "two", 6: "six", 10: "ten", 19: "nineteen"}
OURS = {"late", "udi", "gap"}


@pytest.fixture(scope="module")
def measured(balance):
    """Return the stored results of the comparison with scikit-learn."""
    results = importlib.import_module("_results")
    return list(results.load_results(RESULTS / "balance.csv.gz").values())


def states(page, *sentences):
    """Check that a page has these words."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert [sentence for sentence in sentences if sentence not in text] == []


def test_the_three_best_mean_ranks(measured):
    module, metrics = importlib.import_module("_ranks"), importlib.import_module("_results")
    best = {}
    for metric in (metrics.ACCURACY, metrics.LOG_LOSS):
        names, table = module.ranks(measured, metric)
        in_order = [names[number] for number in table.mean(axis=0).argsort()]
        assert set(in_order[:3]) == OURS
        best[metric.name] = in_order[0]
    assert best == {"accuracy": "gap", "log-loss": "udi"}
    states(
        "README.md",
        f"On {WORDS[len(table)]} real data sets, `LateFusionClassifier`, `UDIClassifier` and `ModalityGapClassifier` "
        "have the three best mean ranks in accuracy and in log-loss, ahead of logistic regression, stacking and "
        "boosting.",
    )
    states(
        "docs/guide/choosing.md",
        f"scikit-learn's models on {WORDS[len(table)]} real data sets.",
        "Late fusion, UDI and the gap classifier have the three best mean ranks.",
        "The gap classifier leads in accuracy, with a higher log-loss than late fusion on most sets; UDI leads in "
        "log-loss.",
    )


def test_comparisons_within_the_data_sets(measured):
    r = importlib.import_module("_results")
    groups = r.grouped(measured)
    worse = [r.mean(e["gap"], "log_loss") > r.mean(e["late"], "log_loss") for e in groups.values()]
    assert sum(worse) > len(groups) / 2
    gains = [r.interval(r.paired_differences(e["udi"], e["late"], "accuracy")) for e in groups.values()]
    assert not any(r.is_positive(*gain) for gain in gains)
    states("README.md", "UDI is not better than late fusion.")
    states("docs/guide/choosing.md", "UDI is not better than late fusion on these sets.")
    states("docs/guide/udi.md", "UDI is not better than late fusion.")

    accuracy = {name: np.mean([r.mean(e[name], "accuracy") for e in groups.values()]) for name in groups["msrc"]}
    gain = max(accuracy[name] for name in OURS) - accuracy["joint-concat"]
    assert accuracy["joint-folds"] - accuracy["joint-concat"] > gain / 2
    states("docs/guide/choosing.md", "Most of the gain over a single joint network comes from the folds and AdamW.")


def test_data_sets_on_which_scikit_learn_is_ahead(measured):
    r, aims = (importlib.import_module(name) for name in ("_results", "_aims"))
    groups = r.grouped(measured)
    failures = [
        set(re.findall(r"on (\S+) ", " ".join(aims.below_references(groups, name)))) for name in ("late", "udi")
    ]
    assert failures == [{"msrc", "emoji"}] * 2
    states("README.md", "On two of the sets a row of scikit-learn is ahead of late fusion and UDI")
    best = {name: r.best_of(groups[name], aims.REFERENCES, r.ACCURACY) for name in ("msrc", "emoji")}
    assert best == {"msrc": "stacked", "emoji": "boosting"}
    assert r.mean(groups["emoji"]["boosting"], "log_loss") > r.mean(groups["emoji"]["late"], "log_loss")
    n_rows = re.search(r"## msrc\n\n(\d+) random", (RESULTS / "balance.md").read_text())[1]
    states(
        "docs/guide/choosing.md",
        f"On two of the {WORDS[len(groups)]} sets a scikit-learn model has a better accuracy than late fusion and UDI, "
        f"outside the 95 % interval. One has {n_rows} training rows, and stacking wins. On the other, boosting on raw "
        "pixels wins, with a worse log-loss.",
    )


def test_balancing_methods():
    lines = (RESULTS / "balancers.md").read_text().split("## Overview")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    differences = {
        name: [tuple(map(float, value.split(" ± "))) for value in values if "±" in value] for name, *values in cells[3:]
    }
    methods = {name: values for name, values in differences.items() if name.startswith("joint:")}
    above = {name for name, values in methods.items() if any(mean > half_width for mean, half_width in values)}
    below = {name for name, values in methods.items() if any(-mean > half_width for mean, half_width in values)}
    assert len(above) >= 3
    assert len(below) >= 3
    for values in methods.values():
        for (mean, half_width), (late, late_half_width) in zip(values, differences["late"], strict=True):
            assert mean - half_width <= late + late_half_width
    states(
        "docs/guide/choosing.md",
        "Several methods gain over joint training where a modality is wasted. Some lose accuracy where none is. On no "
        "set is the interval of a method clear of that of late fusion, and above it.",
    )
    states("docs/guide/balancing.md", "no method is clearly above late fusion.")


def test_counts_of_methods_edits_and_labels():
    n_methods = len(set(balancers.__all__) - {"Balancer", "FusionHead", "GradientConflict", "Outputs", "Training"})
    states("README.md", f"one of {WORDS[n_methods]} [balancing methods]")
    states("docs/guide/choosing.md", f"one of {WORDS[n_methods]} balancing methods")
    card = (ROOT / "mmestim/voice/pretrained/MODEL_CARD.md").read_text()
    n_edits = re.search(r"for each of (\d+) edits", card)[1]
    states("README.md", f"out of {n_edits}, with probabilities and places.")
    recalls = {row[0]: float(row[1]) for row in re.findall(r"^\| (\w+) \|.*\) \| ([\d.]+) \| ", card, re.MULTILINE)}
    assert recalls["cut"] == min(recalls.values()) < 0.05
    states("README.md", "it finds almost no cuts")
    states("docs/voice/limits.md", "Cuts are the hardest")
    counts = f"{WORDS[len(CATEGORIES)]} categories and {len(LABELS)} labels"
    states("docs/voice/taxonomy.md", counts)
    states("docs/voice/index.md", counts)


def test_false_alarms_of_the_detector_in_the_package():
    card = (ROOT / "mmestim/voice/pretrained/MODEL_CARD.md").read_text()
    table = card.split("files as people have them")[1].split("\n## ")[0]
    rates = re.findall(r"^\| .+? \| \d+ \(\S+\) \| (\d+) \(\S+\) \| (\d+) \(", table, re.MULTILINE)
    processing, changed = np.array(rates, int).max(axis=0)
    assert len(rates) > 30
    states(
        "docs/voice/limits.md",
        f"Processing other than the codec of the file was detected in at most {processing} % of the files of a kind, "
        f"and changed content in at most {changed} %.",
    )


@pytest.mark.parametrize("report", ["detection", "field", "scan", "synthesizers"])
def test_reports_are_of_the_detector_in_the_package(report):
    with pretrained_file() as path:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    found = re.findall(r"pretrained ([0-9a-f]{8})", (RESULTS / f"voice-{report}.md").read_text())
    assert set(found) == {digest}


def test_tables_and_files_are_small():
    for report in RESULTS.glob("*.md"):
        rows = [line for line in report.read_text().splitlines() if line.startswith("|")]
        assert max((line.count("|") - 1 for line in rows), default=0) <= 12, report
    assert sum(path.stat().st_size for path in RESULTS.rglob("*.csv*")) < 500_000
    assert max(path.stat().st_size for path in RESULTS.glob("*-ranks.png")) < 200_000
