"""Use of the package as mypy sees it in strict mode: what is right passes, and mistakes are reported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmestim

pytest.importorskip("mypy")

FOLDER = Path(__file__).parent
GUIDE = FOLDER.parents[1] / "docs" / "guide" / "sklearn.md"
WITHOUT_SKLEARN = """
[tool.mypy]
strict = true

[[tool.mypy.overrides]]
module = "sklearn.*"
ignore_missing_imports = true
"""


@pytest.fixture
def reported(tmp_path, pytestconfig):
    """Function of mypy's settings that returns the file, the line and the code of each error in both scripts."""

    def check(settings):
        (tmp_path / "pyproject.toml").write_text(settings)
        cache = pytestconfig.cache.mkdir("mypy")
        command = [sys.executable, "-m", "mypy", "--cache-dir", cache, FOLDER / "consumer.py", FOLDER / "mistakes.py"]
        # mypy treats a package of this path, but not of its own folder, as an installed one: it must have a py.typed.
        environment = {**os.environ, "PYTHONPATH": str(Path(mmestim.__file__).parents[1])}
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.stderr == ""
        errors = re.findall(r"(\w+)\.py:(\d+): error: .*\[([a-z-]+)\]$", run.stdout, re.MULTILINE)
        return {(name, int(line), code) for name, line, code in errors}

    return check


def marked(pattern):
    """Return the mistakes whose mark matches a pattern."""
    lines = enumerate((FOLDER / "mistakes.py").read_text().splitlines(), 1)
    return {("mistakes", number, mark[1]) for number, line in lines if (mark := re.search(f"  # {pattern}$", line))}


def test_settings_of_the_guide(reported):
    settings = re.search(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    assert reported(settings) == marked(r"([a-z]+-[a-z]+)(?:, with scikit-learn)?")


def test_classes_of_scikit_learn_may_be_unknown(reported):
    assert reported(WITHOUT_SKLEARN) == marked("([a-z]+-[a-z]+)")
