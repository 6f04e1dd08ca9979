"""What a container shares and what it may do, as the docker command asks for it."""

import os
import time
from pathlib import Path

import pytest

from tests.cgroups import needs
from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root


def _run(engine: EngineProcess, *words: str, code: int = 0) -> str:
    done = engine.docker("run", "--rm", "--network", "none", *words, code=code)
    return done.out if not code else done.err


def test_group_add_by_name_and_number(engine: EngineProcess) -> None:
    """Names are the container's own; an exec has the groups too; an unknown one fails the start."""
    words = ("--group-add", "users", "--group-add", "8", "-u", "www-data", "busybox")
    assert set(_run(engine, *words, "id", "-G").split()) == {"33", "8", "100"}
    engine.docker("run", "-d", "--network", "none", "--name", "grouped", *words, "sleep", "60")
    assert set(engine.docker("exec", "grouped", "id", "-G").out.split()) == {"33", "8", "100"}
    unknown = ("--group-add", "nosuch", "busybox", "true")
    assert "Unable to find group nosuch: no matching entries in group file" in _run(engine, *unknown, code=125)


def test_tmpfs_has_dockers_mode(engine: EngineProcess) -> None:
    """1777 where the image has no such directory, else that one's, else what was asked for."""
    places = ("--tmpfs", "/new", "--tmpfs", "/root", "--tmpfs", "/etc:mode=701")
    assert _run(engine, *places, "busybox", "stat", "-c", "%a", "/new", "/root", "/etc") == "1777\n700\n701\n"


def test_the_hosts_devices_are_out_of_reach(engine: EngineProcess) -> None:
    """chmod of masks, devices and the standard input changes nothing of the host."""
    before = os.stat("/dev/null")
    _run(engine, "busybox", "sh", "-c", "chmod 0 /proc/keys /proc/self/fd/0 /dev/null; chown 1 /proc/keys; true")
    engine.docker("run", "-d", "--network", "none", "--name", "hostile", "busybox", "sleep", "60")
    engine.docker("exec", "hostile", "sh", "-c", "chmod 0 /proc/keys /proc/self/fd/* /dev/null; true")
    after = os.stat("/dev/null")
    if after.st_mode != before.st_mode:
        os.chmod("/dev/null", 0o666)
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


def test_ipc_of_another_container(engine: EngineProcess) -> None:
    """Shared with who shares it; refused by name where it is private or does not run."""
    for name, mode in (("shares", "shareable"), ("keeps", "private"), ("hosts", "host")):
        engine.docker("run", "-d", "--network", "none", "--name", name, "--ipc", mode, "busybox", "sleep", "60")
    engine.docker("create", "--network", "none", "--name", "waits", "--ipc", "shareable", "busybox", "true")
    engine.docker("exec", "shares", "sh", "-c", "echo hello > /dev/shm/file")
    both = "cat /dev/shm/file; readlink /proc/self/ns/ipc"
    assert _run(engine, "--ipc", "container:shares", "busybox", "sh", "-c", both) == (
        f"hello\n{engine.docker('exec', 'shares', 'readlink', '/proc/self/ns/ipc').out}"
    )
    assert _run(engine, "--ipc", "container:hosts", "busybox", "readlink", "/proc/self/ns/ipc").strip() == (
        os.readlink("/proc/self/ns/ipc")
    )
    hint = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    assert hint in _run(engine, "--ipc", "container:keeps", "busybox", "true", code=125)
    assert "is not running" in _run(engine, "--ipc", "container:waits", "busybox", "true", code=125)
    assert "No such container: nobody" in _run(engine, "--ipc", "container:nobody", "busybox", "true", code=125)
    # one that joined can be joined
    engine.docker(
        "run", "-d", "--network", "none", "--name", "chain", "--ipc", "container:shares", "busybox", "sleep", "60"
    )
    assert _run(engine, "--ipc", "container:chain", "busybox", "cat", "/dev/shm/file") == "hello\n"


def test_pid_of_another_container(engine: EngineProcess) -> None:
    """Its processes are seen; one that does not run cannot be joined."""
    engine.docker("run", "-d", "--network", "none", "--name", "donor", "busybox", "sleep", "4321")
    assert "sleep 4321" in _run(engine, "--pid", "container:donor", "busybox", "ps")
    engine.docker("create", "--network", "none", "--name", "waits", "busybox", "true")
    words = _run(engine, "--pid", "container:waits", "busybox", "true", code=125)
    assert "failed to join PID namespace: container" in words
    assert "is not running" in words


@pytest.mark.parametrize(
    ("flag", "kind"), [("--ipc", "ipc"), ("--pid", "pid"), ("--uts", "uts"), ("--cgroupns", "cgroup")]
)
def test_namespaces_of_the_host(engine: EngineProcess, flag: str, kind: str) -> None:
    """`host` is the host's own."""
    shown = _run(engine, flag, "host", "busybox", "readlink", f"/proc/self/ns/{kind}")
    assert shown.strip() == os.readlink(f"/proc/self/ns/{kind}")


def test_no_ipc_has_no_shared_memory(engine: EngineProcess) -> None:
    """`--ipc none`: a namespace of its own and no /dev/shm."""
    shown = _run(engine, "--ipc", "none", "busybox", "sh", "-c", "readlink /proc/self/ns/ipc; ls /dev")
    assert "shm" not in shown
    assert os.readlink("/proc/self/ns/ipc") not in shown


def test_privileged(engine: EngineProcess) -> None:
    """Every capability that we have, the host's devices, writable /sys and cgroups, mounts inside; and no warning."""
    script = (
        "grep CapEff /proc/self/status | cut -f2; mkdir /m; mount -t tmpfs t /m && umount /m && echo mounted;"
        "grep -c ' /proc/' /proc/mounts; grep -E ' (/sys|/sys/fs/cgroup) ' /proc/mounts | cut -d' ' -f4 | cut -c-2"
    )
    for more in ((), ("--read-only", "--tmpfs", "/m")):
        done = engine.docker("run", "--rm", "--privileged", "--network", "none", *more, "busybox", "sh", "-c", script)
        with open("/proc/self/status", encoding="ascii") as status:
            ours = next(line.split()[1] for line in status if line.startswith("CapEff"))
        assert done.out == f"{ours}\nmounted\n0\nrw\nrw\n"
        assert "WARNING" not in done.err
    assert _run(engine, "--privileged", "busybox", "stat", "-c", "%t %T", "/dev/fuse") == "a e5\n"


@needs("pids")
def test_a_fork_bomb_leaves_the_engine_room(engine: EngineProcess) -> None:
    """Of what the machine can have the containers get seven eighths; the bomb meets the limit, `rm -f` ends it."""
    id_ = engine.docker("run", "-d", "--network", "none", "--name", "bomb", "busybox", "sleep", "600").out.strip()
    limit = _limit_of_all(engine, "bomb")
    most = min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))
    assert limit.read_text().strip() == str(most * 7 // 8)
    try:
        limit.write_text("150")
        # which of the two counts a refused fork depends on the kernel
        counters = [limit.with_name("pids.events"), limit.parent / id_ / "pids.events"]
        before = [file.read_text() for file in counters]
        engine.docker("exec", "-d", "bomb", "sh", "-c", "bomb() { bomb | bomb & }; bomb")
        until(lambda: [file.read_text() for file in counters] != before, "the bomb meets the limit")
        began = time.monotonic()
        assert engine.docker("ps", "-q").out
        engine.docker("exec", "bomb", "true", check=False)
        engine.docker("rm", "-f", "bomb")
        assert time.monotonic() - began < 30, "the engine is starved"
    finally:
        limit.write_text(str(most * 7 // 8))
    assert _run(engine, "busybox", "echo", "again") == "again\n"


def test_no_socket_of_ours_has_an_abstract_name_cve_2020_15257(engine: EngineProcess) -> None:
    """A container in the host's network could connect to one; ours have paths, below a closed directory, or no name."""
    engine.docker("run", "-d", "--name", "busy", "busybox", "sleep", "600")
    ours = {
        os.readlink(entry).removeprefix("socket:[").removesuffix("]")
        for pid in engine.processes()
        for entry in Path(f"/proc/{pid}/fd").iterdir()
        if os.readlink(entry).startswith("socket:[")
    }
    seen = engine.docker("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix").out.splitlines()[1:]
    named = {fields[6]: fields[7] for line in seen if len(fields := line.split()) == 8}
    found = {named[inode] for inode in ours & named.keys()}
    assert engine.roots.socket in found
    assert not [name for name in found if name.startswith("@")]


def _limit_of_all(engine: EngineProcess, name: str) -> Path:
    """The `pids.max` that all containers of the engine share, found from one that runs."""
    pid = engine.docker("inspect", "--format", "{{.State.Pid}}", name).out.strip()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        top = "/sys/fs/cgroup/pids" if controllers == "pids" else "/sys/fs/cgroup"
        if controllers in ("pids", "") and (found := Path(top + path).parent / "pids.max").exists():
            return found
    raise AssertionError("no pids controller")
