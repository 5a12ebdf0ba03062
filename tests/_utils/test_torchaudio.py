"""Import of torchaudio without its extension."""

import importlib
import sys

import pytest

from mmestim._utils.torchaudio import import_torchaudio


class RefuseModule:
    """Module finder that raises for one module."""

    def __init__(self, module, error):
        self.module, self.error = module, error

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            raise self.error


@pytest.fixture
def refuse(monkeypatch):
    def refuse(module, error):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [RefuseModule(module, error), *sys.meta_path])

    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchaudio"}
    yield refuse
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize(
    "error",
    [OSError("libcudart.so: cannot open"), RuntimeError("different CUDA versions"), ImportError("libtorchaudio")],
    ids=lambda error: type(error).__name__,
)
def test_plain_python_parts_work_without_the_extension(refuse, error):
    refuse("torchaudio._extension", error)
    torchaudio = import_torchaudio()
    assert torchaudio.transforms.LFCC
    assert torchaudio.models.wavlm_model
    assert importlib.import_module("torchaudio") is torchaudio  # for others too


def test_missing_torchaudio_is_reported(refuse):
    refuse("torchaudio", ModuleNotFoundError("No module named 'torchaudio'", name="torchaudio"))
    with pytest.raises(ModuleNotFoundError, match="torchaudio"):
        import_torchaudio()
