"""The detector that comes with the package, on recordings and from the command line."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from mmestim.__main__ import main
from mmestim.voice import LABELS, VoiceEditDetector
from mmestim.voice.pretrained import pretrained_file

MAX_MEGABYTES = 10
UNKNOWN_SPEAKERS = 12


@pytest.fixture(scope="module")
def pretrained():
    return VoiceEditDetector.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def unedited(data_folder):
    """Clips of unknown speakers."""
    table = pd.read_csv(data_folder / "speech" / "clips.csv")
    table = table[(table["split"] == "val") & (table["duration_s"] > 4)].drop_duplicates("speaker")
    paths = [data_folder / "speech" / "audio" / name for name in table["file"][:UNKNOWN_SPEAKERS]]
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


def test_the_file_is_small_and_its_card_is_of_this_file(pretrained):
    with pretrained_file() as path:
        content, card = path.read_bytes(), path.with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    assert len(content) < MAX_MEGABYTES * 1e6
    assert re.search(r"SHA-256 begins with `(\w+)`", card)[1] == hashlib.sha256(content).hexdigest()[:8]
    assert pretrained.labels_.tolist() == [label for label in LABELS if label != "vc"]


def test_unedited_clips_are_not_accused_and_edits_are_found(pretrained, unedited):
    verdicts = [analysis.verdict for analysis in pretrained.analyze(unedited)]
    assert verdicts.count("no edit found") >= UNKNOWN_SPEAKERS - 1
    filters = butter(8, 1500, "low", fs=16_000, output="sos")
    rng = np.random.default_rng(0)
    edited = {
        "low_pass": [sosfilt(filters, clip).astype(np.float32) for clip in unedited],
        "background_noise": [clip + clip.std() * rng.normal(0, 0.5, len(clip)).astype(np.float32) for clip in unedited],
    }
    for label, clips in edited.items():
        recall = pretrained.predict(clips)[:, pretrained.labels_.tolist().index(label)].mean()
        assert recall >= 0.7, label


def test_scan_uses_it_when_no_model_is_given_and_says_so(unedited, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", unedited[0], 16_000)
    assert main(["scan", str(tmp_path / "a.wav"), "--device", "cpu"]) in (0, 4)
    out, err = capsys.readouterr()
    assert out.startswith(str(tmp_path / "a.wav"))
    assert "the detector that comes with mmestim" in err
