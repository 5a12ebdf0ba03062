"""The smallest runs of benchmarks/papers.py, from files to the report."""

import csv
import gzip
import re

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from torch import nn

import papers
from mmestim.encoders.choice import ENCODERS

TINY = "--encoder tiny --embedding-dim 8 --size 16 --times 30 --epochs 2 --seeds 1 --device cpu".split()
RATE = 16_000


class TinyEncoder(nn.Sequential):
    """Encoder of spectrograms and of frames, in place of ResNet-18."""

    def __init__(self, input_shape, embedding_dim=8):
        n_values = int(np.prod(input_shape))
        super().__init__(nn.Flatten(), nn.LayerNorm(n_values), nn.Linear(n_values, embedding_dim), nn.ReLU())


@pytest.fixture(autouse=True)
def _tiny_encoder(monkeypatch):
    monkeypatch.setitem(ENCODERS, "tiny", TinyEncoder)


def write_video(path, is_left):
    """Write six frames of which one half is bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=6)
        video.height, video.width, video.pix_fmt = 32, 32, "yuv420p"
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[:, :16] = 220 * is_left
        picture[:, 16:] = 220 * (not is_left)
        for _ in range(6):
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))


@pytest.fixture(scope="module")
def crema_d(tmp_path_factory):
    """Return a folder in the layout of CREMA-D, with 40 clips of two emotions by ten actors."""
    folder = tmp_path_factory.mktemp("crema-d")
    (folder / "AudioWAV").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        is_angry = number % 2 == 0
        sentence = ("DFA", "IEO")[number // 2 % 2]
        name = f"{1001 + number // 4}_{sentence}_{('SAD', 'ANG')[is_angry]}_XX"
        tone = np.sin(2 * np.pi * (300 + 900 * is_angry) * np.arange(4000) / RATE)
        soundfile.write(folder / "AudioWAV" / f"{name}.wav", 0.2 * tone + 0.02 * rng.normal(size=4000), RATE)
        write_video(folder / "VideoFlash" / f"{name}.mp4", is_left=is_angry)
    return folder


@pytest.fixture
def run(tmp_path, crema_d, capsys):
    def run(*more, data_set="crema-d", folder=crema_d, status=0):
        places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
        assert papers.main(["--data-set", data_set, "--folder", str(folder), *TINY, *places, *more]) == status
        return capsys.readouterr()

    return run


def read_lines(folder):
    with gzip.open(folder / "papers.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def table_of(text, title):
    """Return the rows of the table below a heading, without the method's padding."""
    section = text.partition(f"## {title}")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


def test_files_become_a_report_with_published_figures(run, tmp_path):
    printed = run("--estimators", "sum", "OGM", "decoupled", "udi", "udi-0-1", "udi-anchor-1", "gap").out
    report = (tmp_path / "papers-crema-d.md").read_text(encoding="utf-8")
    assert report in printed
    assert "36 rows train and 4 test, of 2 classes. A tenth of the rows are test rows, drawn at random" in report
    assert "Inputs: audio 257 x 30, video 2 x 3 x 16 x 16. Encoder: tiny from scratch. 2 epochs at most." in report
    lines = {line["estimator"]: line for line in read_lines(tmp_path)}
    methods = table_of(report, "UDI, table 1")
    ours = f"{100 * float(lines['udi']['accuracy']):.2f}", f"{100 * float(lines['udi']['macro_f1']):.2f}"
    assert methods["UDI"] == ["82.80", "83.19", *ours, "1"]
    assert methods["CML"] == ["69.18", "69.57", "", "", ""]
    audio = re.match("audio=([^;]+);video=", lines["decoupled"]["accuracy_alone"])[1]
    assert methods["first modality alone"][2] == f"{100 * float(audio):.2f}"
    assert table_of(report, "UDI, table 2")["DO and DC"] == methods["UDI"]
    assert table_of(report, "UDI, table 3")["0, 1"][-1] == "1"
    assert table_of(report, "UDI, table 4")["second modality"] == ["82.80", "83.19", "", "", ""]
    assert table_of(report, "Modality gap")["gap"][:2] == ["80.65", ""]
    assert "Defaults of mmestim" not in report
    assert lines["udi-anchor-1"]["anchor"] == "audio"
    assert lines["udi"]["guidance"].count("=") == 2
    assert lines["decoupled"]["guidance"] == lines["sum"]["guidance"] == ""


def test_a_later_call_runs_only_what_is_missing(run, tmp_path):
    run("--estimators", "sum")
    first = read_lines(tmp_path)
    printed = run("--estimators", "sum", "decoupled").out
    assert "1 of 2 runs are in" in printed
    assert "[1/1] decoupled, seed 0" in printed
    assert read_lines(tmp_path)[0] == first[0]
    assert "2 of 2 runs are in" in run("--estimators", "decoupled", "sum").out
    assert "[1/1] sum, seed 1" in run("--estimators", "sum", "--seeds", "2").out
    assert "[1/1] sum, seed 0" in run("--estimators", "sum", "--epochs", "1").out  # other settings
    assert "[1/1] sum, seed 0" in run("--estimators", "sum", "--by-group").out  # other test rows
    assert "[1/1] sum, seed 0" in run("--estimators", "sum", "--fresh").out
    run("--estimators", "sum", "--seeds", "2")
    assert re.search(r"\| Sum +\| 66.40 +\| 66.82 +\| [\d.]+ ± [\d.]+ \|", (tmp_path / "papers-crema-d.md").read_text())


def test_a_run_that_fails_leaves_the_others(run, tmp_path, monkeypatch):
    execute = papers.execute

    def diverge(key, *args):
        if key[1] == "sum":
            raise ValueError("training diverged")
        return execute(key, *args)

    monkeypatch.setattr(papers, "execute", diverge)
    assert "[1/2] sum, seed 0 failed: training diverged" in run("--estimators", "sum", "decoupled", status=1).err
    assert [line["estimator"] for line in read_lines(tmp_path)] == ["decoupled"]
    assert table_of((tmp_path / "papers-crema-d.md").read_text(encoding="utf-8"), "UDI, table 2")["neither"][2] == ""


def test_groups_are_held_out_on_request(run, tmp_path, crema_d):
    args = papers.parse(["--data-set", "crema-d", "--folder", str(crema_d), *TINY, "--by-group"])
    args.cache = tmp_path / "cache"
    data = papers.open_data(args)
    assert set(data.groups[data.is_test]).isdisjoint(data.groups[~data.is_test])
    (crema_d / "test.csv").write_text("1001_DFA_ANG_XX,ANG\n")
    names = [path.stem for path in (crema_d / "AudioWAV").iterdir() if path.stem != "1001_DFA_ANG_XX"]
    (crema_d / "train.csv").write_text("".join(f"{name},\n" for name in names))
    try:
        assert "--by-group is for data sets without a split" in run("--by-group", status=2).err
        args.by_group = False
        data = papers.open_data(args)
        assert data.is_test.sum() == 1
        assert data.groups is None
        assert data.note == "The folder's own split."
    finally:
        (crema_d / "train.csv").unlink()
        (crema_d / "test.csv").unlink()


def test_unreadable_files_are_absent_and_rows_without_any_are_left_out(run, tmp_path, crema_d):
    copy = tmp_path / "copy"
    for path in crema_d.rglob("*_*.*"):
        target = copy / path.relative_to(crema_d)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    damaged = ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_DFA_SAD_XX.wav", "VideoFlash/1002_DFA_SAD_XX.mp4"]
    for name in damaged:
        (copy / name).unlink()
        (copy / name).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="values that cannot be read count as absent"):
        run("--estimators", "decoupled", folder=copy)
    assert " 1 rows without any readable file are left out." in (tmp_path / "papers-crema-d.md").read_text()


def test_ucf101_reads_frames_and_optical_flow(run, tmp_path):
    folder = tmp_path / "ucf101"
    lists = {"train": [], "test": []}
    for number in range(20):
        label = ("YoYo", "Archery")[number % 2]
        clip = f"v_{label}_g{number // 4 + 1:02}_c{number % 4 + 1:02}"
        write_video(folder / "UCF-101" / label / f"{clip}.avi", is_left=number % 2)
        lists["test" if number >= 16 else "train"].append(f"{label}/{clip}.avi")
        for axis in "uv":
            images = folder / "tvl1_flow" / axis / clip
            images.mkdir(parents=True)
            for frame in range(4):
                pixels = np.full((20, 30), 100 + 10 * frame + 50 * (axis == "v"), np.uint8)
                Image.fromarray(pixels).save(images / f"frame{frame:06}.png")
    (folder / "ucfTrainTestlist").mkdir()
    for part, names in lists.items():
        (folder / "ucfTrainTestlist" / f"{part}list01.txt").write_text("\n".join(names))
    args = papers.parse(["--data-set", "ucf101", "--folder", str(folder), *TINY, "--cache", str(tmp_path / "cache")])
    data = papers.open_data(args)
    assert {name: block.shape for name, block in data.X.items()} == {
        "rgb": (20, 3, 3, 16, 16),
        "flow": (20, 3, 2, 16, 16),
    }
    assert data.X["flow"][0][:, :, 0, 0].tolist() == [[100, 150], [120, 170], [130, 180]]
    assert data.is_test.sum() == 4
    (folder / "tvl1_flow").rename(tmp_path / "elsewhere")
    assert "has no optical flow" in run(data_set="ucf101", folder=folder, status=2).err


def test_a_wrong_folder_or_encoder_is_named(run, tmp_path):
    assert "is not a folder" in run(folder=tmp_path / "gone", status=2).err
    with pytest.raises(SystemExit):
        run("--encoder", "resnet1")


def test_quick_runs_do_not_reach_the_stored_results():
    args = papers.parse("--data-set ave --folder AVE_Dataset --encoder tiny --quick --epochs 1".split())
    assert (args.estimators, args.epochs, args.out.name) == (papers.QUICK, 1, "demo")
    assert papers.parse("--data-set ave --folder . --encoder tiny".split()).out.name == "results"


@pytest.mark.parametrize("name", [name for name in papers.ESTIMATORS if not name.startswith("default-")])
def test_every_row_has_an_estimator_with_the_papers_settings(name, crema_d):
    args = papers.parse(["--data-set", "crema-d", "--folder", str(crema_d), "--encoder", "tiny"])
    parameters = papers.make_estimator(name, ["audio", "video"], args).get_params()
    expected = {"optimizer": "sgd", "weight_decay": 1e-4, "batch_size": 64, "cv": None, "max_epochs": 100}
    assert parameters | expected == parameters
    assert parameters["lr"] == (0.001 if name.startswith("gap") else 0.01)
