"""Volumes carried away, brought back and doubled: by our own commands, and by tar in a container as the notes do it."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, EngineProcess, until

pytestmark = pytest.mark.root

_FILL = """
cd /v; mkdir -m 750 a; echo one > a/f; chown 7:8 a a/f; chmod 4711 a/f; ln a/f a/hard; ln -s ../../../etc a/out
mkfifo p; chmod 1777 .; chown 5:6 .; truncate -s 5M a/sparse; touch -d 2020-01-02 a/f
"""
_LIST = "cd /v; find . -exec stat -c '%n %f %u %g %h %s %N' {} + | sort"


def _sh(engine: EngineProcess, script: str, *flags: str) -> str:
    return engine.docker("run", "--rm", *flags, "busybox", "sh", "-c", script).out


@pytest.fixture
def filled(engine: EngineProcess) -> str:
    """Give the listing of a volume `src` that has a bit of everything."""
    _sh(engine, _FILL, "-v", "src:/v")
    return _sh(engine, _LIST, "-v", "src:/v")


def test_export_and_import(engine: EngineProcess, filled: str, tmp_path: Path) -> None:
    """What comes back is what went away, to the owner of its root; by file, by pipe, and compressed."""
    archive = tmp_path / "src.tar"
    engine.wherry("volume", "export", "-o", str(archive), "src")
    assert engine.wherry("volume", "import", "--label", "a=b", "back", str(archive)).out == "back\n"
    assert _sh(engine, _LIST, "-v", "back:/v") == filled
    assert engine.docker("volume", "inspect", "-f", "{{.Labels}}", "back").out == "map[a:b]\n"
    script = "wherry volume export src | gzip | wherry volume import piped -"
    engine.run("sh", "-c", script, env={"PATH": f"{BIN}:{os.environ['PATH']}"})
    assert _sh(engine, _LIST, "-v", "piped:/v") == filled
    refused = engine.wherry("volume", "import", "back", str(archive), code=1).err
    assert refused == "Error response from daemon: a volume named back already exists\n"
    assert engine.wherry("volume", "export", "-o", str(tmp_path / "no"), "nope", code=1).err.endswith(
        "no such volume\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["src.tar"]


def test_clone(engine: EngineProcess, filled: str) -> None:
    """A second volume with the same content, which then goes its own way."""
    engine.wherry("volume", "clone", "--label", "copy", "src", "twin")
    assert _sh(engine, _LIST, "-v", "twin:/v") == filled
    _sh(engine, "rm -rf /v/a", "-v", "twin:/v")
    assert _sh(engine, _LIST, "-v", "src:/v") == filled
    assert engine.wherry("volume", "clone", "src", "twin", code=1).err.endswith("already exists\n")
    assert engine.wherry("volume", "clone", "nope", "new", code=1).err.endswith("get nope: no such volume\n")
    assert "too short" in engine.wherry("volume", "clone", "src", "x", code=1).err


def test_a_volume_that_is_mounted_is_carried_too(engine: EngineProcess) -> None:
    """What is in memory while a container uses it can be exported and cloned."""
    engine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem")
    engine.docker("run", "-d", "--name", "user", "-v", "mem:/m", "busybox", "sh", "-c", "echo here > /m/f; sleep 600")
    until(lambda: engine.docker("exec", "user", "ls", "/m").out == "f\n", "the file is there")
    engine.wherry("volume", "clone", "mem", "disk")
    assert _sh(engine, "cat /v/f", "-v", "disk:/v") == "here\n"


@pytest.mark.parametrize("kind", ["cut", "up", "link", "noise"])
def test_what_is_no_volume_leaves_nothing(engine: EngineProcess, tmp_path: Path, kind: str) -> None:
    """An archive that breaks off, or that wants out, makes no volume and no file anywhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, link in (("good", ""), ("l", f"{tmp_path}"), ("../../../../up" if kind == "up" else "l/new", "")):
            entry = tarfile.TarInfo(name)
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            else:
                entry.size = 5
            tar.addfile(entry, io.BytesIO(b"hello") if not link else None)
    data = {"cut": buffer.getvalue()[:514], "noise": b"no archive" * 100}.get(kind, buffer.getvalue())
    engine.wherry("volume", "import", "bad", "-", stdin=data, code=1)
    assert engine.docker("volume", "ls", "-q").out == ""
    assert os.listdir(tmp_path) == []
    until(lambda: os.listdir(engine.roots.volumes) == [], "nothing of it is on the disk")


def test_backup_and_restore_with_tar(engine: EngineProcess, tmp_path: Path) -> None:
    """As data-volume containers are used: `--volumes-from` and tar into a directory of the host, and back."""
    engine.docker("create", "--name", "dbdata", "-v", "/dbdata", "busybox", "true")
    _sh(engine, "echo row > /dbdata/table; mkdir /dbdata/wal; touch /dbdata/wal/1", "--volumes-from", "dbdata")
    backup = f"{tmp_path}:/backup"
    _sh(engine, "tar cf /backup/backup.tar -C /dbdata .", "--volumes-from", "dbdata:ro", "-v", backup)
    engine.docker("create", "--name", "dbdata2", "-v", "/dbdata", "busybox", "true")
    _sh(engine, "cd /dbdata && tar xf /backup/backup.tar", "--volumes-from", "dbdata2", "-v", f"{backup}:ro")
    assert _sh(engine, "cd /dbdata; cat table; ls wal", "--volumes-from", "dbdata2") == "row\n1\n"
    engine.docker("rm", "-v", "dbdata")
    assert _sh(engine, "cat /dbdata/table", "--volumes-from", "dbdata2") == "row\n"
