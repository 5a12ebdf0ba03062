"""Folders in the layouts of data sets."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a function that writes files below a folder, empty ones by name and others with their lines."""

    def write(*names, texts=None):
        for name, lines in (dict.fromkeys(names, ()) | (texts or {})).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return tmp_path

    return write
