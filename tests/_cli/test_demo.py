"""Demonstration from the command line."""

from mmestim.__main__ import main


def test_demo_finds_each_edit_and_nothing_in_the_original(tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert main(["demo", str(folder)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    found = {path.rpartition("/")[2]: (verdict, summary) for path, verdict, summary, _ in lines}
    assert found.pop("original.wav") == ("no edit found", "")
    edits = {"telephone.wav": "telephone", "low_pass.wav": "low-pass filter", "pitch_shift.wav": "pitch shift"}
    assert {name: edit for name, edit in edits.items() if edit in found[name][1]} == edits
    assert "pitch_shift.wav" in (folder / "report.html").read_text(encoding="utf-8")
    (folder / "mine.wav").touch()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["demo", str(folder)]) == 2
    assert "holds other files, such as 'mine.wav'" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_demo_does_not_replace_a_file_by_its_folder(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert main(["demo", str(file)]) == 2
    assert "is a file" in capsys.readouterr().err
