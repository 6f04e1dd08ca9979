"""Flags of directories: set where the file system has them, and no trouble where it has not."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from wherry.linux import fileflags
from wherry.paths import Roots
from wherry.snapshots.overlay import Overlay


class Kernel:
    """ioctl(2) of a file system with flags, or of one without."""

    def __init__(self, *, knows: bool = True) -> None:
        self.knows = knows
        self.flags = 0x80000  # extents, which every directory of ext4 has
        self.written = 0

    def ioctl(self, fd: int, request: int, flags: ctypes.c_long) -> int:
        os.fstat(fd)
        if not self.knows:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if request == 0x80086601:
            flags.value = self.flags
        else:
            self.flags = flags.value
            self.written += 1
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Give a kernel with flags."""
    made = Kernel()
    monkeypatch.setattr(fileflags, "ioctl", made.ioctl)
    return made


def test_layers_are_spread(kernel: Kernel, tmp_path: Path) -> None:
    """Where layers are made each gets a block group of its own; a flag that is there is not written again."""
    roots = Roots(str(tmp_path / "data"), str(tmp_path / "run"))
    Overlay(roots)
    assert (kernel.flags, kernel.written) == (0xA0000, 1)
    Overlay(roots)
    assert kernel.written == 1


def test_a_file_system_without_flags(kernel: Kernel, tmp_path: Path) -> None:
    """It is left as it is; who needs to know is told."""
    kernel.knows = False
    fileflags.spread(str(tmp_path))
    fileflags.spread(str(tmp_path / "missing"))
    assert kernel.written == 0
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Inappropriate ioctl"):
            fileflags.change(fd, take=fileflags.IMMUTABLE)
    finally:
        os.close(fd)


def test_flags_are_taken(kernel: Kernel, tmp_path: Path) -> None:
    """The others stay."""
    kernel.flags = 0x80000 | fileflags.IMMUTABLE | fileflags.APPEND_ONLY
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fileflags.change(fd, take=fileflags.IMMUTABLE | fileflags.APPEND_ONLY)
    finally:
        os.close(fd)
    assert kernel.flags == 0x80000
