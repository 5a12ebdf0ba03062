"""Training of the detector that comes with the package: ``python -m mmestim.voice.pretrained.build DATA``.

The card of the model, ``MODEL_CARD.md``, lists the data, the programs and the packages that it needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...persistence import save
from .. import VoiceEditDetector
from ..taxonomy import EDIT_LABELS
from .training_audio import prepare

SEED = 0
# More than the default of the detector: trees and networks of windows improve with the number of clips.
N_CLIPS = 20_000


def main() -> None:
    """Prepare the audio, train the detector and write its file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the folders speech and noise")
    parser.add_argument("--work", type=Path, required=True, help="folder for the training audio")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("detector.mme"), help="file to write")
    parser.add_argument("--model", default="hybrid", help="the detector's parameter (default: hybrid)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    audio = prepare(options.data, options.work)
    detector = VoiceEditDetector(
        [label for label in EDIT_LABELS if label != "vc"],
        model=options.model,
        sources={"tts": audio.synthetic},
        noises=audio.noises,
        n_clips=N_CLIPS,
        n_jobs=options.jobs,
        device="cpu",
        verbose=1,
        random_state=SEED,
    )
    detector.fit(audio.speech).set_params(n_jobs=None, verbose=0)
    forget_durations(detector)
    save(detector, options.output)


def forget_durations(detector: VoiceEditDetector) -> None:
    """Delete the durations of a training, so that equal weights are saved as equal files."""
    for report in detector.training_report_.values():
        if isinstance(report, dict):
            del report["seconds"]


if __name__ == "__main__":
    main()
