"""Whose a file is: binds that show the caller's files as root's, and users of hostile account files."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, EngineProcess
from wherry.runtime.idmaps import as_root

pytestmark = pytest.mark.root


def _as(uid: int, gid: int, engine: EngineProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run our command as another user, who may use the socket."""
    os.chmod(engine.roots.run, 0o755)
    os.chmod(engine.roots.socket, 0o666)
    os.chmod(engine.base, 0o755)
    # a checkout may lie where only root can read it
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *reads, str(BIN / "wherry"), *words]
    return subprocess.run(command, env=engine.env, capture_output=True, text=True, check=False)


def test_files_of_the_containers_root_belong_to_the_caller(engine: EngineProcess, tmp_path: Path) -> None:
    """`--mount type=bind,…,idmap=me` (moby#2259): the caller's files are root's inside, and what root makes is his."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "mine").write_text("x")
    (place / "roots").write_text("y")
    (place / "other").write_text("z")
    for name, owner in (("", 4321), ("mine", 4321), ("other", 777)):
        os.chown(place / name, owner, owner + 1)
    mount = f"type=bind,src={place},dst=/w,idmap=me"
    script = "stat -c '%n %u %g' /w/*; touch /w/new; mkdir /w/dir; chown 777:778 /w/new; touch /w/again"
    done = _as(4321, 4322, engine, "run", "--rm", "--mount", mount, "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["/w/mine 0 0", "/w/other 777 778", "/w/roots 65534 65534"]
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in place.iterdir()}
    assert owners == {
        "mine": (4321, 4322),
        "roots": (0, 0),
        "other": (777, 778),
        "new": (777, 778),
        "dir": (4321, 4322),
        "again": (4321, 4322),
    }
    assert not engine.mounts()


def test_owners_that_cannot_be_shown(engine: EngineProcess) -> None:
    """A file system without id-mapped mounts is refused by name; so is what is no user."""
    mount = "type=bind,src=/proc/sys,dst=/w,idmap=5:6"
    failed = engine.wherry("run", "--rm", "--mount", mount, "busybox", "true", code=125)
    assert "id-mapped mounts are not supported by this kernel or by the file system of the source" in failed.err
    for wrong in ("you", "1", "1:", "-1:1", "99999999999:1"):
        words = ("create", "--mount", f"type=bind,src=/tmp,dst=/w,idmap={wrong}", "busybox", "true")
        assert engine.wherry(*words, check=False).code in (1, 125), wrong
    refused = engine.wherry("create", "--mount", "type=volume,src=vol,dst=/w,idmap=me", "busybox", "true", code=125)
    assert "cannot mix" in refused.err


def test_maps_name_every_id_once() -> None:
    """No id of the disk is shown twice, and none is two users'."""
    for own in (0, 1, 1000, 0xFFFFFFFD, 0xFFFFFFFE):
        rows = [tuple(int(word) for word in line.split()) for line in as_root(own).splitlines()]
        for column in (0, 1):
            spans = sorted((row[column], row[column] + row[2]) for row in rows)
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), rows
            assert spans[-1][1] <= 0xFFFFFFFF
        assert any(row[0] <= own < row[0] + row[2] and row[1] + own - row[0] == 0 for row in rows)


def test_users_by_name_and_number(engine: EngineProcess) -> None:
    """`-u` by name and number, with a group, and the supplementary groups that the image's file gives."""
    engine.docker("run", "-d", "--name", "base", "busybox", "sleep", "600")
    script = (
        "echo app:x:7:8::/home/app:/bin/sh >> /etc/passwd; echo grp:x:9:app >> /etc/group; echo g8:x:8: >> /etc/group"
    )
    engine.docker("exec", "base", "sh", "-c", script)

    def ids(*flags: str) -> str:
        return engine.docker("exec", *flags, "base", "sh", "-c", "id -u; id -g; id -G").out.replace("\n", " ").strip()

    assert ids("-u", "app") == "7 8 8 9"
    assert ids("-u", "7") == "7 8 8 9"
    assert ids("-u", "app:grp") == "7 9 9"
    assert ids("-u", "1234") == "1234 0 0"
    assert ids("-u", "1234:55") == "1234 55 55"
    for wrong in ("nope", "app:nope", "4294967296", "-1", "2147483648", "0:4294967296"):
        assert engine.docker("exec", "-u", wrong, "base", "true", check=False).code != 0, wrong
