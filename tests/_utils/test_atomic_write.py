"""Atomic writing of files: what is left after an error, and the name of the file in it."""

import errno
import os

import pytest

from mmestim._utils.atomic_write import write_atomically


def failing_parts(error):
    yield b"part"
    raise error


def test_an_error_leaves_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"No space left on device: '.*x'$") as caught:
        write_atomically(path, failing_parts(full))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    other = FileNotFoundError(errno.ENOENT, "No such file", "source")
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, failing_parts(other))
    assert caught.value is other
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(path, [b"some ", b"text"])
        assert os.read(reader, 100) == b"some text"
    finally:
        os.close(reader)
    assert not path.is_file()
