"""Import of torchaudio that succeeds even if its compiled extension does not match the installed torch.

The wheels of torchaudio are built against one CUDA version of torch. With another version, or with a torch for CPUs,
their extension does not load. The parts in use (LFCC, wav2vec 2.0) are plain Python and do not need it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def import_torchaudio() -> Any:
    """Import torchaudio, with a stand-in for its extension if that fails to load."""
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":  # It is not installed.
            raise
    except (ImportError, OSError, RuntimeError):
        pass
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]  # It is only partly imported.
    extension: Any = ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    sys.modules[extension.__name__] = extension
    return importlib.import_module("torchaudio")


torchaudio = import_torchaudio()
