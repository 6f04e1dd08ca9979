"""What the engine itself makes in a container's upper directory is not the container's."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.snapshots.diff import diff_upper
from wherry.snapshots.scaffold import scaffold

pytestmark = pytest.mark.root

FILES = {b".dockerenv", b"dev", b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"proc", b"sys"}


def started(directory: Path) -> Path:
    """An upper directory as the start of a container leaves it."""
    for name in ("dev", "etc", "proc", "sys"):
        (directory / name).mkdir(parents=True, mode=0o755)
        (directory / name).chmod(0o755)
    for name in (".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"):
        (directory / name).touch()
    return directory


@pytest.fixture
def opened() -> Iterator[Callable[[Path], int]]:
    """Give a function that opens a directory until the end of the test."""
    descriptors: list[int] = []

    def open_(path: Path) -> int:
        descriptors.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return descriptors[-1]

    yield open_
    for fd in descriptors:
        os.close(fd)


def layer(directory: Path, mode: int | None) -> Path:
    """A layer's tree that has an `etc` of that mode, or none."""
    directory.mkdir()
    if mode is not None:
        (directory / "etc").mkdir()
        (directory / "etc").chmod(mode)
    return directory


@pytest.mark.parametrize(
    ("modes", "changes"),
    [
        ((), []),
        ((None,), []),
        ((None, None), []),
        ((0o755,), []),
        ((None, 0o755), []),
        ((0o755, 0o700), []),
        ((0o700,), [("C", "/etc")]),
        ((None, 0o700), [("C", "/etc")]),
        ((0o700, 0o755), [("C", "/etc")]),
    ],
)
def test_a_fresh_container_changed_nothing(
    tmp_path: Path, opened: Callable[[Path], int], modes: tuple[int | None, ...], changes: list[tuple[str, str]]
) -> None:
    """`etc` is the engine's where the newest layer that has one has the same, and where no layer has any."""
    upper = opened(started(tmp_path / "upper"))
    lowers = [opened(layer(tmp_path / f"layer{number}", mode)) for number, mode in enumerate(modes)]
    found = scaffold(upper, lowers)
    assert found == (FILES if changes else FILES | {b"etc"})
    assert diff_upper(upper, lowers, hidden=found) == changes


def test_what_the_container_made_is_its_own(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    """A file beside the engine's makes `etc` a change, and so does a file of the engine's that was written."""
    upper = started(tmp_path / "upper")
    (upper / "etc/mine").touch()
    (upper / "etc/hosts").write_text("127.0.0.1 localhost\n")
    fd = opened(upper)
    found = scaffold(fd, [])
    assert found == FILES - {b"etc/hosts"}
    assert diff_upper(fd, [], hidden=found) == [("A", "/etc"), ("A", "/etc/hosts"), ("A", "/etc/mine")]
