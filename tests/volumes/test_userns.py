"""User namespaces: root in a container is nobody in particular on the host, and the disk keeps the images' ids."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, running

pytestmark = pytest.mark.root

_NAME, _FIRST = "wherry-test-remap", 300000


@pytest.fixture
def subordinate() -> Iterator[str]:
    """Give the name of a user who has ids set aside."""
    line = f"{_NAME}:{_FIRST}:65536\n"
    before = {}
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        before[path] = path.read_text() if path.exists() else None
        path.write_text((before[path] or "") + line)
    try:
        yield _NAME
    finally:
        for path, text in before.items():
            if text is None:
                path.unlink()
            else:
                path.write_text(path.read_text().replace(line, ""))


@pytest.fixture
def remapped(subordinate: str, tmp_path: Path) -> Iterator[EngineProcess]:
    """Give an engine with `userns-remap`."""
    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"userns-remap": subordinate}))
    with running(EngineProcess("--config-file", str(config))) as engine:
        yield engine


def test_root_is_nobody_on_the_host(remapped: EngineProcess, tmp_path: Path) -> None:
    """Ids, files of layer, volume and bind, network, exec and copies in a user namespace; `--userns=host` in none."""
    engine = remapped
    flags = ("-v", "data:/v", "-v", f"{tmp_path}:/b")
    engine.docker("run", "-d", "--name", "box", *flags, "busybox", "sleep", "600")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "box").out)
    assert os.stat(f"/proc/{pid}").st_uid == _FIRST
    inside = engine.docker(
        "exec", "box", "sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %u / /etc /v /etc/hosts /b"
    ).out
    assert inside.split() == ["0", "0", str(_FIRST), "65536", "0", "0", "0", "0", "65534"]
    script = (
        "touch /made /v/made; echo x >> /etc/hosts; chown 5:6 /v/made; ping -c1 -w5 127.0.0.1 >/dev/null; touch /b/no"
    )
    assert "Permission denied" in engine.docker("exec", "box", "sh", "-c", script, check=False).err
    # on the disk, and so in commits, exports and other containers, everything has the ids of images
    upper = engine.docker("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "box").out.strip()
    assert os.stat(f"{upper}/made").st_uid == 0
    volume = engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "data").out.strip()
    assert (os.stat(f"{volume}/made").st_uid, os.stat(f"{volume}/made").st_gid) == (5, 6)
    host = ("--userns", "host", "-v", "data:/v", "busybox")
    assert engine.docker("run", "--rm", *host, "stat", "-c", "%u", "/v/made").out == "5\n"
    # copies see the container's ids
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 7, 8)
    engine.docker("cp", str(tmp_path / "f"), "box:/tmp/f")
    assert engine.docker("exec", "box", "stat", "-c", "%u %g", "/tmp/f").out == "7 8\n"
    engine.docker("cp", "-a", "box:/made", str(tmp_path / "made"))
    listed = engine.run("sh", "-c", "docker cp box:/v - | tar tv --numeric-owner").out
    assert " 5/6 " in listed
    # nothing that is closed to root in the container is read or written for it
    for words in (("box:/b/f", "-"), (str(tmp_path / "f"), "box:/b/f")):
        assert "permission denied" in engine.docker("cp", *words, code=1).err
    engine.docker("rm", "-f", "box")
    assert not engine.mounts()


def test_nothing_of_the_engine_can_be_edited(remapped: EngineProcess) -> None:
    """CVE-2021-21284: root in the container, with the engine's own directory mounted, changes nothing of it."""
    engine = remapped
    script = "cd /d; ls; chmod 777 . ; echo x > lock; touch new; mknod dev c 1 3; cat wherry.db"
    done = engine.docker("run", "--rm", "-v", f"{engine.roots.data}:/d", "busybox", "sh", "-c", script, check=False)
    assert done.code != 0 and done.out == ""
    assert not os.path.exists(f"{engine.roots.data}/new")


def test_one_container_asks_for_it(engine: EngineProcess, subordinate: str) -> None:
    """`--userns=remap` takes the ids of `dockremap`; where nobody set any aside it is refused by name."""
    text = Path("/etc/subuid").read_text()
    if "dockremap:" not in text:
        refused = engine.wherry("run", "--rm", "--userns", "remap", "busybox", "id", code=125).err
        assert 'No subuid ranges found for user "dockremap"' in refused
    for flags in (("--privileged",), ("--network", "host"), ("--pid", "host"), ("--ipc", "host")):
        refused = engine.wherry("create", "--userns", "remap", *flags, "busybox", "id", code=1).err
        assert "user namespaces" in refused, flags
    assert engine.docker("run", "--rm", "--userns", "host", "busybox", "id", "-u").out == "0\n"
