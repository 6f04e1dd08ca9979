"""Users and groups of a container's own files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import HostileInput, InvalidArgument
from wherry.linux.identity import home_of, read_accounts, resolve

_USERS = "root:x:0:0:r:/root:/bin/sh app:x:1000:1001::/home/app: broken half:x:5"
_GROUPS = "root:x:0: wheel:x:10:root,app audio:x:20:app app:x:1001: bad:x:y:app"
PASSWD = [line.split(":") for line in _USERS.split()]
GROUP = [line.split(":") for line in _GROUPS.split()]


@pytest.mark.parametrize(
    ("spec", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (0, 10), "/root"),
        ("root", 0, 0, (0, 10), "/root"),
        ("app", 1000, 1001, (1001, 10, 20), "/home/app"),
        ("1000", 1000, 1001, (1001, 10, 20), "/home/app"),
        ("app:wheel", 1000, 10, (10,), "/home/app"),
        ("app:77", 1000, 77, (77,), "/home/app"),
        ("4242", 4242, 0, (0,), "/"),
        ("4242:audio", 4242, 20, (20,), "/"),
        (":audio", 0, 20, (20,), "/root"),
        ("2147483647:2147483647", 2147483647, 2147483647, (2147483647,), "/"),
    ],
)
def test_dockers_rules(spec: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    """A user by name or number, its groups (the primary one among them: CVE-2022-36109) and home."""
    who = resolve(spec, PASSWD, GROUP)
    assert (who.uid, who.gid, who.groups, who.home) == (uid, gid, groups, home)


@pytest.mark.parametrize("spec", ["2147483648", "4294967296", "-1", "0:4294967296", "app:-1", "18446744073709551616"])
def test_cve_2024_40635_numbers_that_wrap(spec: str) -> None:
    """A number that the kernel would cut down to another, perhaps 0, is refused."""
    with pytest.raises(InvalidArgument, match="uids and gids must be in range 0-2147483647"):
        resolve(spec, PASSWD, GROUP)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("zoe", "unable to find user zoe: no matching entries in passwd file"),
        ("root:zoo", "unable to find group zoo: no matching entries in group file"),
        ("+1", r"unable to find user \+1: no matching"),
        ("1_0", "unable to find user 1_0: no matching"),
        ("\u0661", "unable to find user \u0661: no matching"),
    ],
)
def test_unknown_names(spec: str, words: str) -> None:
    """Docker's words; what only looks like a number to Python is a name."""
    with pytest.raises(InvalidArgument, match=words):
        resolve(spec, PASSWD, GROUP)


def test_more_groups() -> None:
    """`--group-add` takes names and numbers; none is there twice."""
    assert resolve("app", PASSWD, GROUP, ("audio", "99", "root")).groups == (1001, 10, 20, 99, 0)


@given(st.text(), st.lists(st.lists(st.text(max_size=6), max_size=8), max_size=6))
def test_any_file_is_read(spec: str, rows: list[list[str]]) -> None:
    """No content makes another error than `InvalidArgument`."""
    try:
        resolve(spec, rows, rows)
        home_of(0, rows)
    except InvalidArgument:
        return


def test_files(tmp_path: Path) -> None:
    """No file is an empty one; comments and odd bytes are read over; a directory or a FIFO is refused at once."""
    assert read_accounts(str(tmp_path / "none")) == []
    (tmp_path / "passwd").write_bytes(b"#no\nroot:x:0:0:\xff:/root:\n\n")
    assert read_accounts(str(tmp_path / "passwd")) == [["root", "x", "0", "0", "\udcff", "/root", ""]]
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(HostileInput, match="not a regular file"):
            read_accounts(str(tmp_path / name))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(HostileInput, match="larger than"):
        read_accounts(str(tmp_path / "huge"))
