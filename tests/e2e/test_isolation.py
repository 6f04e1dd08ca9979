"""What a container shares and what it may do, as the docker command asks for it."""

import os

import pytest

from tests.e2e.harness import EngineProcess

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
