"""Rooms of the package: who may import whom, how many files they hold, and which libraries stay in one of them."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mmestim

PACKAGE = Path(mmestim.__file__).parent
MAX_FILES = 10  # beside __init__.py
MAX_LINES = 500

# The rooms that each room may import. A row covers everything below its name that has no row of its own.
ARROWS = {
    "_utils": "",
    "_distributed": "",
    "_data": "_distributed _utils",
    "encoders": "_utils",
    "_training": "_data _distributed _utils",
    "_serialization": "_utils",
    "_networks": "_data encoders",
    "balancers": "_networks _training _data _distributed encoders _utils",
    "multimodal.base": "_networks _training _serialization _data _distributed encoders _utils",
    "multimodal._analysis": "multimodal.base _networks _training _serialization _data _utils",
    "multimodal._cross_fitting": "multimodal.base _networks _training _data _utils",
    "multimodal._objectives": (
        "multimodal._cross_fitting multimodal._analysis multimodal.base balancers _networks _training _data "
        "_distributed"
    ),
    "multimodal": (
        "multimodal._objectives multimodal._cross_fitting multimodal._analysis multimodal.base balancers _networks "
        "_training _data encoders _utils"
    ),
    "datasets": "voice._audio _utils",
    "media": "voice._audio voice._files _training _data _utils",
    "voice._constants": "",
    "voice.time_map": "",
    "voice.ranges": "_utils",
    "voice._files": "",
    "voice._audio": "voice._files voice._constants _utils",
    "voice._recordings": "voice._audio voice._files voice._constants _utils",
    "voice.networks": "voice._constants _utils",
    "voice.taxonomy": "voice.ranges",
    "voice.records": "voice.taxonomy voice.time_map voice._audio _utils",
    "voice.segments": "voice.records voice.taxonomy",
    "voice._window_labels": "voice.records voice.taxonomy",
    "voice.edits": "voice._audio voice.taxonomy voice.time_map _utils",
    "voice._features": "voice._audio voice._constants _utils",
    "voice._simulation": "voice.edits voice.records voice.taxonomy voice.time_map voice._audio _utils",
    "voice.localization": "voice.segments voice._window_labels voice.taxonomy voice._audio _utils",
    "voice.formats": "voice.segments _utils",
    "voice.metrics": "voice.localization voice.segments voice.records voice.taxonomy _utils",
    "voice._training_data": (
        "voice._simulation voice._window_labels voice.records voice.taxonomy voice._audio voice._constants _training "
        "_utils"
    ),
    "voice._models": (
        "voice._training_data voice._audio voice._features voice._window_labels voice.networks voice.taxonomy "
        "voice._constants _training _data _distributed _utils"
    ),
    "voice.pretrained": "",
    "voice.pretrained.training_audio": "voice.pretrained voice._audio",
    "voice.pretrained.build": "voice.pretrained.training_audio voice voice.taxonomy persistence",
    "voice._detection": (
        "voice._models voice._training_data voice._simulation voice.metrics voice.localization voice.networks "
        "voice.records voice.taxonomy voice.pretrained voice._recordings voice._audio voice._constants persistence "
        "_training _serialization _distributed _utils"
    ),
    "voice._reporting": (
        "voice._detection voice._models voice._recordings voice.formats voice.segments voice.taxonomy voice._audio "
        "voice._files voice._constants _utils"
    ),
    "voice": (
        "voice._reporting voice._detection voice._simulation voice.edits voice.records voice.taxonomy voice.time_map "
        "voice._audio"
    ),
    "displays": "multimodal multimodal._analysis voice voice._audio voice.localization _data _utils",
    "persistence": "multimodal multimodal.base balancers _networks _training _serialization encoders _utils",
    "_cli": (
        "persistence voice voice._reporting voice._detection voice.pretrained voice.formats voice._audio voice._files "
        "voice.taxonomy datasets _utils"
    ),
    "__main__": "_cli",
}
# Saving stands on the floor of the base that calls it, below the classifiers.
FLOORS = {"multimodal.saved_classifier": "multimodal.base", "multimodal.fit_context": "multimodal.base"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path):
    """Yield the absolute names that a file imports, in functions and under TYPE_CHECKING too."""
    package = list(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield from (".".join([*base, alias.name]) for alias in node.names)


def room_of(module):
    """Return the longest row of the table that covers a module; None for the package itself."""
    name = module.removeprefix("mmestim").lstrip(".")
    while name and name not in ARROWS and name not in FLOORS:
        name = name.rpartition(".")[0]
    return FLOORS.get(name, name) or None


FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({path.parent for path in FILES})


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_arrows_run_one_way(path):
    room = room_of(module_name(path))
    if room is None:
        return  # the package's __init__ gathers public names from everywhere
    targets = {room_of(name) for name in imported_modules(path) if name.partition(".")[0] == "mmestim"}
    assert targets - {room, None} - set(ARROWS[room].split()) == set()


def test_arrows_form_no_circle():
    rooms = TopologicalSorter({room: targets.split() for room, targets in ARROWS.items()}).static_order()
    assert set(rooms) == set(ARROWS)


def test_every_arrow_is_used():
    allowed = {(room, target) for room, targets in ARROWS.items() for target in targets.split()}
    used = {(room_of(module_name(path)), room_of(name)) for path in FILES for name in imported_modules(path)}
    assert allowed - used == set()


@pytest.mark.parametrize("folder", ROOMS, ids=module_name)
def test_rooms_hold_ten_files_at_most(folder):
    files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MAX_FILES or folder.name == "balancers"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_have_500_lines_at_most(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("library, room", [("skorch", "_training"), ("torchaudio", "_utils")])
def test_a_library_is_imported_in_one_room(library, room):
    text = rf"^\s*(from|import) {library}\b|import_module\(\"{library}"
    importing = {room_of(module_name(path)) for path in FILES if re.search(text, path.read_text(), re.MULTILINE)}
    assert importing == {room}
