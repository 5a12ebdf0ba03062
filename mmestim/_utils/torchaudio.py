"""The one import of torchaudio, which outlives a compiled extension that does not fit the installed torch.

torchaudio's wheels are built against one CUDA version of torch; beside another, or beside a torch for CPUs, their
extension does not load. What is used here (LFCC, wav2vec 2.0) is plain Python and needs none.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def _import_torchaudio() -> Any:
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":  # not installed
            raise
    except (ImportError, OSError, RuntimeError):
        pass
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]  # half imported
    extension: Any = ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    sys.modules[extension.__name__] = extension
    return importlib.import_module("torchaudio")


torchaudio = _import_torchaudio()
