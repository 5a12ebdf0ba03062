"""Pages of the site that follow from the package and from the stored results, so that they cannot drift."""

from __future__ import annotations

import csv
import importlib
import inspect
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

#: Public modules in the order of the reference, with a line for each.
MODULES = {
    "mmestim": "Classifiers, analyses, plots and files.",
    "mmestim.balancers": "Balancing methods for `JointClassifier`, and the base class of new ones.",
    "mmestim.encoders": "Built-in encoders.",
    "mmestim.datasets": "Small data sets, and lists of the files of larger ones.",
    "mmestim.media": "Files and texts as modalities.",
    "mmestim.persistence": "Files of fitted estimators.",
    "mmestim.voice": "Edits of voice recordings: simulation, detection, scans and reports.",
    "mmestim.voice.pretrained": "The file of the detector that comes with the package.",
    "mmestim.voice.edits": "The edits themselves.",
    "mmestim.voice.localization": "Segments, and trackers that find them in scores.",
    "mmestim.voice.formats": "Files of segments for other programs.",
    "mmestim.voice.metrics": "Metrics of detection and localization.",
    "mmestim.voice.networks": "Networks of waveforms.",
    "mmestim.voice.networks.front_ends": "Front ends of the networks.",
}
# Results with the question that each answers.
_BENCHMARKS = {
    "balance": "Do the classifiers beat scikit-learn's?",
    "balancers": "Do balancing methods help?",
    "guidance": "Does guidance help the weaker modality?",
    "papers-crema-d": "How do the papers' methods compare on CREMA-D?",
    "papers-kinetics-sounds": "How do the papers' methods compare on Kinetics-Sounds?",
    "papers-ucf101": "How do the papers' methods compare on UCF101?",
    "papers-ave": "How do the papers' methods compare on AVE?",
    "voice-field": "How often are files as people have them accused?",
    "voice-detection": "How well are edits detected and located?",
    "voice-synthesizers": "How well is synthetic speech detected?",
    "voice-scan": "How fast are scans?",
    "voice-simulate": "How fast is the simulation?",
    "voice-shortcuts": "Do shortcuts reveal simulated edits?",
    "media": "How fast are files read?",
    "scale": "What do more processes and clusters gain?",
    "mixture": "How fast is the mixture of gaps?",
    "speed": "How fast are fits, predictions and balancing methods?",
}
# Tables of speed.py, each with its title and a description.
_SPEED_TABLES = {
    "speed": (
        "Fits and predictions",
        "Seconds, and ratios to a hand-written torch loop over five epochs. Light: a perceptron on 20,000 x 128. Conv: "
        "convolutions on 2,000 x 32 x 32.",
    ),
    "speed-balancers": ("Balancing methods", "Seconds of a step, and ratios to a step of plain joint training."),
    "speed-costs": ("Other costs", "Imports, folds and checkpoints, and ratios to the first contender of each."),
}


def write_all(folder: Path) -> None:
    """Write all generated pages below a folder."""
    _write(folder / "api" / "index.md", _api_index())
    for name, summary in MODULES.items():
        for page, lines in _api_pages(name, summary):
            _write(folder / "api" / f"{page}.rst", lines)
    _write(folder / "voice" / "taxonomy_table.inc.md", _taxonomy_table())
    card = ROOT / "mmestim" / "voice" / "pretrained" / "MODEL_CARD.md"
    _write(folder / "voice" / "card.md", card.read_text(encoding="utf-8").splitlines())
    pages = {name: _result(name) for name in _BENCHMARKS if (RESULTS / f"{name}.md").exists()} | {"speed": _speed()}
    _write(folder / "benchmarks" / "index.md", _benchmarks_index(pages))
    for name, lines in pages.items():
        _write(folder / "benchmarks" / f"{name}.md", lines)
    for image in RESULTS.glob("*-ranks.png"):
        shutil.copyfile(image, folder / "benchmarks" / image.name)
    _write(folder / "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines())
    for name, lines in _contributing_pages().items():
        _write(folder / f"{name}.md", lines)


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write a page if it has changed, so that Sphinx builds only what is new."""
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _api_index() -> Iterator[str]:
    yield "# Reference\n"
    yield "All public classes and functions, by module.\n"
    for name, summary in MODULES.items():
        yield f"- [{name}]({name}.rst): {summary}"
    yield "\n```{toctree}\n:hidden:\n"
    yield from MODULES
    yield "```"


def _public_objects(name: str) -> dict[str, Any]:
    """Return the public classes and functions of a module, without those that a module below it documents."""
    module = importlib.import_module(name)
    below = [importlib.import_module(other) for other in MODULES if other.startswith(f"{name}.")]
    elsewhere = {item for other in below for item in other.__all__}
    objects = {item: getattr(module, item) for item in sorted(module.__all__, key=str.lower)}
    return {item: value for item, value in objects.items() if callable(value) and item not in elsewhere}


def _api_pages(name: str, summary: str) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the names and the lines of the pages of a module."""
    objects = _public_objects(name)
    groups = {
        "Classes": [item for item, value in objects.items() if isinstance(value, type)],
        "Functions": [item for item, value in objects.items() if not isinstance(value, type)],
    }
    lines = [_underlined(name, "="), f".. module:: {name}\n", summary.replace("`", "``"), ""]
    for title, members in groups.items():
        if not members:
            continue
        lines += [_underlined(title, "-"), ".. list-table::", ""]
        for member in members:
            role = "class" if title == "Classes" else "func"
            first = inspect.getdoc(objects[member]).partition("\n\n")[0].replace("\n", " ")
            first = re.sub(r" \[\d+\]_", "", first)  # the references are on the member's own page
            lines += [f"   * - :{role}:`~{name}.{member}`", f"     - {first}"]
        pages = [f"   {name}.{member}" for member in members]
        lines += ["", ".. toctree::", "   :hidden:", "", *pages, ""]
    yield name, lines
    for member, value in objects.items():
        yield f"{name}.{member}", _object_page(name, member, value)


def _object_page(module: str, name: str, value: Any) -> Iterator[str]:
    yield _underlined(name, "=")
    yield f".. currentmodule:: {module}\n"
    if isinstance(value, type):
        ours, inherited = _methods(value)
        yield f".. autoclass:: {name}\n"
        if ours:
            yield "   .. rubric:: Methods\n"
            yield from (f"   .. automethod:: {method}" for method in ours)
        if inherited:
            yield f"\n   Inherited: {', '.join(f'``{method}``' for method in inherited)}."
    else:
        yield f".. autofunction:: {name}"
    yield f"\n.. minigallery:: {module}.{name}\n   :add-heading: Examples"


def _methods(cls: type) -> tuple[list[str], list[str]]:
    """Return the public methods of a class that the package defines, and those of scikit-learn's base classes."""
    ours, inherited = [], []
    for method in dir(cls):
        owner = next((base for base in cls.__mro__ if method in vars(base)), object)
        if method.startswith("_") or method == "forward" or not callable(getattr(cls, method)):
            continue
        if owner.__module__.startswith("mmestim") and not re.fullmatch("set_.*_request", method):
            ours.append(method)
        elif owner.__module__.startswith(("mmestim", "sklearn")):
            inherited.append(method)
    return ours, inherited


def _underlined(title: str, character: str) -> str:
    return f"{title}\n{character * len(title)}\n"


def _taxonomy_table() -> Iterator[str]:
    from mmestim.voice import TAXONOMY

    yield "| category | label | kind | scope | sampled parameters |\n|---|---|---|---|---|"
    for label, info in TAXONOMY.items():
        if label == "unaltered":
            continue
        ranges = "; ".join(f"{name} {values}" for name, values in info.ranges.items())
        yield f"| {info.category} | `{label}` | {info.kind} | {', '.join(info.scopes)} | {ranges} |"


def _contributing_pages() -> dict[str, list[str]]:
    """Return CONTRIBUTING as two pages: the map with the places of new parts, and the rest."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    title, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    pages: dict[str, list[str]] = {"architecture": [], "contributing": [title]}
    for section in sections:
        is_map = section.startswith(("## Architecture\n", "## Adding things\n"))
        pages["architecture" if is_map else "contributing"].append(section)
    pages["architecture"][0] = pages["architecture"][0].removeprefix("#")
    return pages


def _result(name: str) -> Iterator[str]:
    """Yield a page of stored results, below the question that they answer."""
    yield f"# {_BENCHMARKS[name]}\n"
    if (RESULTS / f"{name}-ranks.png").exists():
        yield f"![Ranks of the estimators on the data sets]({name}-ranks.png)\n"
    yield re.sub(r"\A# .*\n", "", (RESULTS / f"{name}.md").read_text(encoding="utf-8"))


def _speed() -> Iterator[str]:
    yield f"# {_BENCHMARKS['speed']}\n\n`benchmarks/speed.py` times all contenders in turn on one thread of a CPU.\n"
    for name, (title, description) in _SPEED_TABLES.items():
        with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        yield f"## {title}\n\n{description}\n"
        yield f"| {' | '.join(header)} |\n|{'---|' * len(header)}"
        yield from (f"| {' | '.join(row)} |" for row in rows)
        yield ""


def _benchmarks_index(names: Iterable[str]) -> Iterator[str]:
    yield "# Benchmarks\n"
    yield ("Each page is written by a script from measured figures. Rows that lose stay in the tables.\n")
    yield from (f"- [{_BENCHMARKS[name]}]({name}.md)" for name in names)
    yield "\n```{toctree}\n:hidden:\n"
    yield from names
    yield "```"
