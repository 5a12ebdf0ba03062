"""Freed memory is retained inside the context and returned after it."""

import ctypes
import os
import resource
import sys

import pytest
import torch

from mmestim._utils.malloc import retain_freed_memory

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="applies to glibc only"
)
MEGABYTE = 2**20
PAGES = 64 * MEGABYTE // os.sysconf("SC_PAGE_SIZE")


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@glibc
def test_large_blocks_are_allocated_once():
    before = resident()
    with retain_freed_memory():
        for _ in range(8):  # there has to be room for the alignment as well
            torch.ones(16 * MEGABYTE)
        first = faults()
        for _ in range(4):
            torch.ones(16 * MEGABYTE)
        assert faults() - first < PAGES / 10
        retained = resident()
    # The block may reuse memory that earlier tests have freed, so that the level before says little.
    assert retained - resident() > 48 * MEGABYTE
    assert resident() - before < 48 * MEGABYTE


@glibc
def test_memory_is_returned_after_an_error():
    def failing():
        with retain_freed_memory():
            torch.ones(16 * MEGABYTE)
            raise RuntimeError

    before = resident()
    with pytest.raises(RuntimeError):
        failing()
    assert resident() - before < 48 * MEGABYTE


def test_other_c_libraries_are_left_unchanged(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with retain_freed_memory():
        assert torch.ones(3).sum() == 3
