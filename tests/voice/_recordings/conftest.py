"""Fixtures of the tests of recordings."""

import numpy as np
import pytest
import soundfile

RATE = 16000


@pytest.fixture(scope="session")
def voices(data_folder):
    """Return five waveforms of about 8 s of real speech, each of another speaker, at one level."""
    files = sorted((data_folder / "speech" / "audio" / "train").glob("*.flac"))
    clips: dict[str, list[np.ndarray]] = {}
    for file in files[:60]:
        clips.setdefault(file.name.split("-")[0], []).append(soundfile.read(file, dtype="float32")[0])
    speakers = [np.concatenate(parts)[: 8 * RATE] for parts in clips.values() if sum(map(len, parts)) >= 8 * RATE]
    return [0.05 * speaker / speaker.std() for speaker in speakers[:5]]
