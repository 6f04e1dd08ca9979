"""Every driver keeps the contract; the file system one also keeps out of reach of links."""

import contextlib
import errno
import os
import time
from pathlib import Path

import pytest
from tests.registry.driver_contract import DriverContract

from wherry.errors import KernelError
from wherry.registry.errors import OutOfSpace
from wherry.registry.storage.driver import Driver
from wherry.registry.storage.filesystem import Filesystem
from wherry.registry.storage.memory import Memory


class TestMemory(DriverContract):
    """The memory driver."""

    @pytest.fixture
    def driver(self) -> Driver:
        """An empty one."""
        return Memory()


def _open_below(root: str) -> list[str]:
    """What this process has open of a directory; the collector may close what earlier tests forgot elsewhere."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(link for link in found if link.startswith(root))


class TestFilesystem(DriverContract):
    """The file system driver."""

    @pytest.fixture
    def driver(self, tmp_path: Path) -> Driver:
        """An empty one."""
        return Filesystem(str(tmp_path / "root"))

    def test_symbolic_links_are_not_followed(self, tmp_path: Path) -> None:
        """A link inside the root, to a file or on the way, opens nothing outside."""
        (tmp_path / "secret").write_text("secret")
        driver = Filesystem(str(tmp_path / "root"))
        os.symlink(tmp_path / "secret", tmp_path / "root" / "file")
        os.symlink(tmp_path, tmp_path / "root" / "dir")
        assert driver.stat("file") is None
        for call in (
            lambda: driver.open("file"),
            lambda: driver.read("dir/secret", 100),
            lambda: driver.put("dir/new", b"x"),
            lambda: driver.append("file"),
        ):
            with pytest.raises(KernelError):
                call()
        assert not (tmp_path / "new").exists()
        driver.put("file", b"mine")  # replaces the link itself
        assert (tmp_path / "secret").read_text() == "secret"

    def test_a_full_device_is_named(self, tmp_path: Path) -> None:
        """ENOSPC becomes a class of its own, and a put leaves no temporary file."""

        def full(step: str, key: str) -> None:
            if step == "put.sync":
                raise OSError(errno.ENOSPC, "full")

        driver = Filesystem(str(tmp_path / "root"), full)
        with pytest.raises(OutOfSpace):
            driver.put("a/b", b"x")
        assert driver.list("tmp") == []
        assert driver.stat("a/b") is None

    def test_sweep_takes_only_what_is_old(self, tmp_path: Path) -> None:
        """What a crash left in `tmp` goes when it is old enough, and its size is told."""
        driver = Filesystem(str(tmp_path / "root"))
        (tmp_path / "root/tmp/left").write_bytes(b"12345")
        assert driver.sweep(time.time_ns() - 10**12) == 0
        assert driver.sweep(time.time_ns() + 1) == 5

    def test_descriptors_are_given_back(self, tmp_path: Path) -> None:
        """No method leaks a descriptor, also where it fails."""
        driver = Filesystem(str(tmp_path / "root"))
        driver.put("a", b"x")
        before = _open_below(driver.root)
        for _ in range(20):
            driver.open("a").close()
            driver.put("d/e", b"y")
            driver.link("a", "l")
            with driver.create("w") as writer:
                writer.cancel()
            with pytest.raises(Exception, match="no such"):
                driver.append("nothing")
            with driver.exclusive("locks/1"):
                driver.stat("a")
        assert _open_below(driver.root) == before
