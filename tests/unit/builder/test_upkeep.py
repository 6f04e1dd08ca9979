"""Cache mounts are measured while steps change them: what a step puts there leads the engine nowhere."""

import os
import threading
from pathlib import Path

import pytest

from wherry.builder.cache.upkeep import Upkeep
from wherry.builder.mounts import CacheLocks

_KEY = "m" * 40
_BYTES = 1000
_LOOKS = 400


class Sent:
    """No sent contexts."""

    def size(self) -> int:
        """No bytes."""
        return 0


class Made:
    """One cache mount, and who looks after it."""

    def __init__(self, directory: Path) -> None:
        self.locks = CacheLocks()
        self.upkeep = Upkeep(str(directory), self.locks, Sent())  # type: ignore[arg-type]
        self.mount = directory / _KEY
        (self.mount / "fs").mkdir(parents=True)
        (self.mount / "meta.json").write_text('{"id": "x"}')

    def size(self) -> int:
        """As `system df` shows it."""
        (entry,) = self.upkeep.listing()
        return int(entry["Size"])


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Give a cache mount with nothing in it."""
    return Made(tmp_path)


def test_each_file_is_counted_once(made: Made) -> None:
    """By its own size, however many names it has; links are not followed."""
    fs = made.mount / "fs"
    (fs / "a").write_bytes(b"x" * _BYTES)
    os.link(fs / "a", fs / "b")
    (fs / "c").symlink_to("/usr")
    assert made.size() == _BYTES + len("/usr")


def test_a_directory_that_becomes_something_else_meanwhile(made: Made) -> None:
    """A step that swaps a directory for a file and for a link neither stops `system df` nor has it count the target."""
    fs = made.mount / "fs"
    elsewhere = made.mount / "elsewhere"
    elsewhere.mkdir()
    for number in range(20):
        (elsewhere / str(number)).write_bytes(b"x" * 10 * _BYTES)
        (fs / "d" / "e").mkdir(parents=True, exist_ok=True)
        (fs / "d" / "e" / str(number)).write_bytes(b"")
    (fs / "file").write_bytes(b"")
    (fs / "link").symlink_to(elsewhere)
    ended = threading.Event()
    rounds = 0

    def swap() -> None:
        nonlocal rounds
        while not ended.is_set():
            for other in ("file", "link"):
                os.rename(fs / "d", fs / "kept")
                os.rename(fs / other, fs / "d")
                os.rename(fs / "d", fs / other)
                os.rename(fs / "kept", fs / "d")
                rounds += 1

    made.locks.used[_KEY] = 1
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        sizes = {made.size() for _ in range(_LOOKS)}
    finally:
        ended.set()
        swapping.join()
    assert rounds > _LOOKS
    assert max(sizes) < 10 * _BYTES


def test_what_was_measured_in_use_is_not_kept(made: Made) -> None:
    """A mount that a step has is measured each time, and once more when the step has ended."""
    file = made.mount / "fs" / "a"
    made.locks.used[_KEY] = 1
    file.write_bytes(b"x")
    assert made.size() == 1
    file.write_bytes(b"x" * _BYTES)
    assert made.size() == _BYTES
    file.write_bytes(b"x" * 2 * _BYTES)
    made.locks.used[_KEY] = 0
    assert made.size() == 2 * _BYTES


def test_a_mount_whose_directory_is_a_link(made: Made) -> None:
    """Or that has none yet: it holds nothing."""
    (made.mount / "fs").rmdir()
    assert made.size() == 0
    made.locks.used[_KEY] = 1
    (made.mount / "fs").symlink_to("/usr")
    assert made.size() == 0
