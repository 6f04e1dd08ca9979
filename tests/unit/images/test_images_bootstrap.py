"""The parts of a bootstrap that need no package: which mirrors, which times, which program."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from wherry.errors import StoreCorrupt
from wherry.images.debian import source_lines
from wherry.images.reproducible import settle

MIRROR, SECURITY = "http://mirror.example/debian", "http://mirror.example/security"
TARGETS = [
    ("http://other.example/apt", "stable", "main"),
    (f"{MIRROR}/", "bookworm", "contrib"),
    (f"{MIRROR}/", "bookworm", "main"),
    (f"{MIRROR}/", "bookworm-updates", "main"),
    (f"{SECURITY}/", "bookworm-security", "main"),
]


def test_own_sources() -> None:
    """The machine's release is taken from the machine's mirrors."""
    assert source_lines("bookworm", "bookworm", TARGETS) == [
        f"deb {MIRROR} bookworm main",
        f"deb {MIRROR} bookworm-updates main",
        f"deb {SECURITY} bookworm-security main",
    ]


def test_other_release() -> None:
    """Another release is taken from the same mirrors; where it has sources of its own, from those."""
    assert source_lines("trixie", "bookworm", TARGETS) == [
        f"deb {MIRROR} trixie main",
        f"deb {MIRROR} trixie-updates main",
        f"deb {SECURITY} trixie-security main",
    ]
    own = [*TARGETS, ("http://near.example/", "trixie", "main")]
    assert source_lines("trixie", "bookworm", own)[0] == "deb http://near.example trixie main"


def test_no_sources() -> None:
    """A machine without Debian mirrors takes Debian's own; one without security updates gets none."""
    assert source_lines("trixie", "noble", [])[0] == "deb http://deb.debian.org/debian trixie main"
    assert source_lines("bookworm", "bookworm", TARGETS[:3]) == [f"deb {MIRROR} bookworm main"]


def archive(now: int) -> bytes:
    """A root file system as a bootstrap at `now` would write it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, moment, data in (
            ("./etc/shadow", now, f"root:*:{now // 86400}:0:99999:7:::\n".encode()),
            ("./usr/bin/x", 1_500_000_000, b"x"),
            ("./usr/share/doc/a/changelog.Debian.gz", 1_650_000_000, b"x"),
            ("./usr/share/doc/b/changelog.gz", 1_600_000_000, b"x"),
            ("./usr/share/doc/b/copyright", 1_640_000_000, b"x"),
            ("./" + "long/" * 60 + "name", now, b"x" * 600),
            ("./var/lib/dpkg/status", now, b"x"),
        ):
            header = tarfile.TarInfo(name)
            header.mtime, header.size = moment, len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def settled(path: Path, now: int) -> tuple[int, bytes]:
    """The archive after `settle`, and the time that it returned."""
    path.write_bytes(archive(now))
    fd = os.open(path, os.O_RDWR)
    try:
        return settle(fd, now), path.read_bytes()
    finally:
        os.close(fd)


def test_settle(tmp_path: Path) -> None:
    """Archives of two days are equal bytes, no time is later than the newest package, and /dev is there."""
    newest, first = settled(tmp_path / "a.tar", 1_700_000_000)
    assert newest == 1_650_000_000
    assert settled(tmp_path / "b.tar", 1_700_000_000 + 5 * 86400 + 17) == (newest, first)
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = {member.name: member for member in tar}
        shadow = tar.extractfile("./etc/shadow")
        assert shadow is not None
        assert shadow.read() == f"root:*:{newest // 86400}:0:99999:7:::\n".encode()
    assert members["./usr/bin/x"].mtime == 1_500_000_000
    assert max(member.mtime for member in members.values()) == newest
    assert members["./dev"].isdir()
    assert any(name.endswith("long/name") for name in members)


def test_settle_nothing(tmp_path: Path) -> None:
    """A root file system without packages is none."""
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(10240))
    fd = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(StoreCorrupt, match="no package"):
            settle(fd, 1_700_000_000)
    finally:
        os.close(fd)
