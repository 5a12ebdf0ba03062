"""Voice edits: a taxonomy, their simulation, and their detection in recordings."""

from ._audio.corpus import AudioCorpus, Skipped
from ._audio.folders import find_audio
from ._audio.reading import AudioError
from ._audio.trimming import trim_silence
from ._detection.clip_analysis import ClipAnalysis
from ._detection.detector import VoiceEditDetector
from ._reporting.report import write_report
from ._reporting.result_files import write_results
from ._reporting.scan import ScannedFile, audio_files, scan_files
from ._simulation.simulator import EditSimulator
from .edits import EDITS
from .records import EditPlan, EditRecord
from .taxonomy import CATEGORIES, LABELS, TAXONOMY, Between, EditInfo, Either, FirstInstalled, OneOf
from .time_map import TimeMap

__all__ = [
    "CATEGORIES",
    "EDITS",
    "LABELS",
    "TAXONOMY",
    "AudioCorpus",
    "AudioError",
    "Between",
    "ClipAnalysis",
    "EditInfo",
    "EditPlan",
    "EditRecord",
    "EditSimulator",
    "Either",
    "FirstInstalled",
    "OneOf",
    "ScannedFile",
    "Skipped",
    "TimeMap",
    "VoiceEditDetector",
    "audio_files",
    "find_audio",
    "scan_files",
    "trim_silence",
    "write_report",
    "write_results",
]
