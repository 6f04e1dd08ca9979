"""`--cgroup-parent`: containers below a cgroup that their creator names, for their whole life."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroups import branches, needs, processes, unified
from tests.e2e.harness import EngineProcess, monitor, until
from wherry.runtime.cgroups import open_cgroup

pytestmark = pytest.mark.root


@pytest.fixture
def parent(own_engine: EngineProcess) -> Iterator[str]:
    """Give the path of a cgroup that is nobody's; what the tests leave of it is removed."""
    path = f"/{own_engine.roots.scope}-parent/inner"
    yield path
    own_engine.remove_all()
    for directory in (path, os.path.dirname(path)):
        for found in branches(directory):
            with contextlib.suppress(OSError):
                found.rmdir()


def test_it_is_where_it_was_asked_to_be(own_engine: EngineProcess, parent: str) -> None:
    """Process 1 and an exec; over a kill of wherryd and of the monitor; gone with the container."""
    asked = f"{parent}/../inner/"
    run = ("run", "-d", "--network", "none", "--cgroup-parent", asked, "--name", "box")
    id_ = own_engine.docker(*run, "busybox", "sleep", "600").out.strip()
    assert own_engine.docker("inspect", "-f", "{{.HostConfig.CgroupParent}}", "box").out.strip() == asked
    pid = int(own_engine.docker("inspect", "-f", "{{.State.Pid}}", "box").out)
    assert f":{parent}/{id_}" in Path(f"/proc/{pid}/cgroup").read_text()
    own_engine.docker("exec", "-d", "box", "sleep", "601")
    until(lambda: len(own_engine.docker("top", "box").out.splitlines()) == 3, "the exec runs")
    assert len(processes(f"{parent}/{id_}")) == 2
    own_engine.kill()
    own_engine.start()
    assert own_engine.docker("stats", "--no-stream", "--format", "{{.Name}}", "box").out == "box\n"
    os.kill(monitor(own_engine, "box"), signal.SIGKILL)
    until(lambda: own_engine.docker("inspect", "-f", "{{.State.Status}}", "box").out == "exited\n", "it has ended")
    assert own_engine.docker("inspect", "-f", "{{.State.ExitCode}}", "box").out == "137\n"
    own_engine.docker("start", "box")
    own_engine.docker("rm", "-f", "box")
    assert not branches(f"{parent}/{id_}") and branches(parent)


@needs("memory")
def test_its_limits_are_there_too(own_engine: EngineProcess, parent: str) -> None:
    """A limit is applied below the parent, and `stats` finds it there; a wherryd that comes later does too."""
    run = ("run", "-d", "--network", "none", "--cgroup-parent", parent, "-m", "64m", "--name", "box")
    own_engine.docker(*run, "busybox", "sleep", "600")
    assert "/ 64MiB" in own_engine.docker("stats", "--no-stream", "box").out
    own_engine.kill()
    own_engine.start()
    assert "/ 64MiB" in own_engine.docker("stats", "--no-stream", "box").out


def test_a_build_step_too(own_engine: EngineProcess, parent: str, tmp_path: Path) -> None:
    """What a Dockerfile runs lives below it while it runs."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN cat /proc/self/cgroup >/where\n")
    own_engine.wherry("build", "--cgroup-parent", parent, "-t", "made", str(tmp_path))
    where = own_engine.docker("run", "--rm", "--network", "none", "made", "cat", "/where").out
    # on cgroup v2 it has a namespace of its own, whose root is its cgroup
    assert ("0::/" in where.splitlines()) if unified() else (f":{parent}/" in where)
    assert not [child for top in branches(parent) for child in top.iterdir() if child.is_dir()]


def test_what_is_no_path_is_refused(own_engine: EngineProcess) -> None:
    """Nothing is made of a name that /proc could not tell."""
    refused = own_engine.docker("create", "--cgroup-parent", "/a\nb", "busybox", "true", check=False)
    assert refused.code == 1 and "invalid cgroup parent" in refused.err
    assert not own_engine.docker("ps", "-aq").out


def test_below_a_frozen_parent(own_engine: EngineProcess, parent: str) -> None:
    """A start there says so, and does not wait for a process that cannot run; nor does an exec. Thawed, both work."""
    run = ("--network", "none", "--cgroup-parent", parent, "--name")
    own_engine.docker("run", "-d", *run, "first", "busybox", "sleep", "600")
    own_engine.docker("create", *run, "second", "busybox", "sleep", "600")
    group = open_cgroup(parent)
    group.freeze(True)
    try:
        done = own_engine.docker("start", "second", check=False)
        assert done.code == 1
        assert "container's cgroup unexpectedly frozen" in done.err
        done = own_engine.docker("exec", "first", "true", check=False)
        assert done.code != 0
        assert "cannot exec in a paused container" in done.out + done.err
    finally:
        group.freeze(False)
    own_engine.docker("start", "second")
    own_engine.docker("exec", "first", "true")
    own_engine.docker("rm", "-f", "first", "second")
