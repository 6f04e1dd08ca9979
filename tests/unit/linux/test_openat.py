"""openat2(2): the kernel may ask to try again, and is not asked for ever."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from wherry.errors import KernelError
from wherry.linux import openat


class Kernel:
    """Says EAGAIN some times, and then opens the file."""

    def __init__(self, path: Path, refusals: int) -> None:
        self.path = path
        self.refusals = refusals
        self.calls = 0

    def syscall(self, *_args: object) -> int:
        """The system call."""
        self.calls += 1
        if self.calls <= self.refusals:
            ctypes.set_errno(errno.EAGAIN)
            return -1
        return os.open(self.path, os.O_RDONLY)


def test_a_rename_meanwhile_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as renames without pause were seen to need."""
    kernel = Kernel(tmp_path, 2000)
    monkeypatch.setattr(openat, "_syscall", kernel.syscall)
    fd = openat.openat2(-1, "x/../y", os.O_RDONLY, openat.RESOLVE_IN_ROOT)
    try:
        assert os.path.samestat(os.fstat(fd), os.stat(tmp_path))
    finally:
        os.close(fd)
    assert kernel.calls == 2001


def test_renames_without_end_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that renames for ever does not hold the engine for ever."""
    monkeypatch.setattr(openat, "_syscall", Kernel(tmp_path, 1_000_000).syscall)
    with pytest.raises(KernelError) as caught:
        openat.openat2(-1, "x/../y", os.O_RDONLY, openat.RESOLVE_IN_ROOT)
    assert caught.value.errno == errno.EAGAIN
