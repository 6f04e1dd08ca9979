"""Checkpoint and restore by the machine's CRIU, with real containers.

They run wherever `criu check` is content with the kernel; `test_checkpoint_refused.py` has what is said elsewhere.
"""

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, EngineProcess, until

CRIU = shutil.which("criu")


def _works() -> bool:
    return CRIU is not None and subprocess.run([CRIU, "check"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not _works(), reason="no CRIU that works with this kernel"),
]

# prlimit(2) of another user's process needs it, and so does CRIU
_CAPABILITIES = re.findall(r"CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())[0]
_CAN_TAKE_USERS = bool(int(_CAPABILITIES, 16) >> 24 & 1)

COUNTER = 'i=0; while :; do i=$((i+1)); echo $i >/scratch/n; echo "line $i"; sleep 0.05; done'


def _counter(engine: EngineProcess, name: str, *flags: str, command: str = COUNTER) -> str:
    """Run a container that counts in memory, in a tmpfs and in its log; returns its id."""
    id_ = engine.docker("run", "-d", "--name", name, "--tmpfs", "/scratch", *flags, "busybox", "sh", "-c", command).out
    until(lambda: _logged(engine, name) > 2, f"{name} counts")
    return id_.strip()


def _logged(engine: EngineProcess, name: str) -> int:
    lines = engine.docker("logs", "--tail", "1", name).out.split()
    return int(lines[-1]) if lines else 0


def _state(engine: EngineProcess, name: str, field: str = "Status") -> str:
    return engine.docker("inspect", "-f", f"{{{{.State.{field}}}}}", name).out.strip()


def _goes_on(engine: EngineProcess, name: str, beyond: int) -> None:
    until(lambda: _logged(engine, name) > beyond, f"{name} counts beyond {beyond}")


def _writes(engine: EngineProcess, name: str) -> None:
    """Wait until its log grows."""
    before = len(engine.docker("logs", name).out.splitlines())
    until(lambda: len(engine.docker("logs", name).out.splitlines()) > before + 2, f"{name} writes")


def test_a_container_goes_on_where_it_was(engine: EngineProcess) -> None:
    """Memory, tmpfs, log, exec, stop; ended by its checkpoint, and restored twice from the same one."""
    _counter(engine, "cr1", "-e", "SHOWN=yes", "-w", "/scratch", "--restart", "always")
    assert engine.wherry("checkpoint", "create", "cr1", "first").out == "first\n"
    assert _state(engine, "cr1") == "exited"
    assert _state(engine, "cr1", "ExitCode") == "137"
    assert engine.wherry("wait", "cr1").out == "137\n"
    assert engine.wherry("checkpoint", "ls", "cr1").out == "CHECKPOINT NAME\nfirst\n"
    seen = [int(line.split()[1]) for line in engine.docker("logs", "cr1").out.splitlines()]
    assert seen == list(range(1, len(seen) + 1))
    for _ in range(2):
        assert engine.wherry("start", "--checkpoint", "first", "cr1").out == ""
        assert (_state(engine, "cr1"), _state(engine, "cr1", "Running")) == ("running", "true")
        _writes(engine, "cr1")
        shown = engine.docker("exec", "cr1", "sh", "-c", "cat /scratch/n; ps").out
        assert int(shown.split()[0]) > len(seen)
        assert "sleep" in shown
        inside = engine.docker("exec", "cr1", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ; readlink /proc/1/cwd").out
        assert "SHOWN=yes" in inside.splitlines()
        assert "/scratch" in inside.splitlines()
        engine.docker("stop", "-t", "0", "cr1")
        assert _state(engine, "cr1", "ExitCode") == "137"
    values = [int(line.split()[1]) for line in engine.docker("logs", "cr1").out.splitlines()]
    assert values.count(len(seen) + 1) == 2, "both went on after the last line of the first"
    assert values.count(1) == 1, "none began anew"
    assert engine.wherry("checkpoint", "rm", "cr1", "first").out == ""
    assert engine.wherry("checkpoint", "ls", "cr1").out == "CHECKPOINT NAME\n"


def test_leave_running_and_a_pause(engine: EngineProcess) -> None:
    """The container goes on, under the same pid; a paused one stays paused; both can be restored."""
    _counter(engine, "cr2")
    pid = _state(engine, "cr2", "Pid")
    engine.wherry("checkpoint", "create", "--leave-running", "cr2", "alive")
    assert _state(engine, "cr2", "Pid") == pid
    _goes_on(engine, "cr2", _logged(engine, "cr2"))
    engine.docker("pause", "cr2")
    engine.wherry("checkpoint", "create", "--leave-running", "cr2", "paused")
    assert _state(engine, "cr2") == "paused"
    engine.docker("unpause", "cr2")
    _goes_on(engine, "cr2", _logged(engine, "cr2"))
    engine.docker("pause", "cr2")
    engine.wherry("checkpoint", "create", "cr2", "ended")
    assert _state(engine, "cr2") == "exited"
    engine.wherry("start", "--checkpoint", "ended", "cr2")
    _writes(engine, "cr2")
    assert engine.wherry("checkpoint", "ls", "cr2").out == "CHECKPOINT NAME\nalive\nended\npaused\n"
    engine.docker("stop", "-t", "0", "cr2")
    for name in ("alive", "paused"):
        engine.wherry("start", "--checkpoint", name, "cr2")
        _writes(engine, "cr2")
        engine.docker("stop", "-t", "0", "cr2")


def test_what_surrounds_it_comes_back(engine: EngineProcess, tmp_path: Path) -> None:
    """A volume and binds (one of them read-only), a user, a read-only root, limits, seccomp, a published port."""
    (tmp_path / "ro").mkdir()
    (tmp_path / "ro" / "file").write_text("from the host\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = "echo $$ >/scratch/n; echo line 3; while :; do echo kept | nc -l -p 8080; done"
    user = ("-u", "1000:1000") if _CAN_TAKE_USERS else ()
    flags = (
        *user,
        "--read-only",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
        "--cgroupns",
        "private",
        "-p",
        f"{port}:8080",
    )
    mounts = ("-v", "cr3data:/data", "-v", f"{tmp_path}/ro:/ro:ro", "--tmpfs", "/own:mode=700,uid=1000")
    _counter(engine, "cr3", *flags, *mounts, "--security-opt", "no-new-privileges", command=server)

    def answer() -> str:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            return client.recv(100).decode()

    def look() -> dict[str, str]:
        """What of the container must be as it was."""

        def ask(text: str) -> str:
            return engine.docker("exec", "-u", "0", "cr3", "sh", "-c", text).out

        names = "Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp"
        return {
            "mounts": "\n".join(sorted(ask("cut -d' ' -f5- /proc/1/mountinfo | grep -v ' - overlay '").splitlines())),
            "root": ask("grep ' - overlay ' /proc/1/mountinfo | cut -d' ' -f5,6"),
            "status": ask(f"grep -E '^({names}):' /proc/1/status"),
            "pids": ask("cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true"),
            "cgroup": ask("cat /proc/1/cgroup"),
            "limit": ask("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"),
            "devices": ask("ls -l /dev | tr -s ' ' | cut -d' ' -f1-6,10-"),
            "files": ask("cat /ro/file; hostname; cat /etc/hostname; ls -ld /own"),
            "sysctl": ask("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"),
        }

    assert answer() == "kept\n"
    until(lambda: "8080" in engine.docker("exec", "cr3", "netstat", "-ltn").out, "it listens again")
    before = look()
    engine.wherry("checkpoint", "create", "cr3", "all1")
    engine.wherry("start", "--checkpoint", "all1", "cr3")
    after = look()
    for what, value in before.items():
        assert after[what] == value, what
    until(lambda: "8080" in engine.docker("exec", "cr3", "netstat", "-ltn").out, "it listens")
    assert answer() == "kept\n"
    assert engine.docker("exec", "cr3", "touch", "/ro/x", check=False).code
    assert engine.docker("exec", "-u", "0", "cr3", "touch", "/x", check=False).code
    engine.docker("exec", "-u", "0", "cr3", "touch", "/data/x")
    engine.docker("rm", "-f", "cr3")
    engine.docker("volume", "rm", "cr3data")


def test_standard_input_and_an_attached_client(engine: EngineProcess) -> None:
    """A restored process reads what its new clients send, and they see what it writes."""
    loop = "echo line 3; while read -r word; do echo got $word; [ $word = end ] && exit 5; done"
    _counter(engine, "cr4", "-i", command=loop)
    engine.wherry("checkpoint", "create", "cr4", "in")
    argv = [str(BIN / "wherry"), "start", "-ai", "--checkpoint", "in", "cr4"]
    with subprocess.Popen(argv, env=engine.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(b"one\ntwo\nend\n")
        client.stdin.flush()
        assert client.stdout.read() == b"got one\ngot two\ngot end\n"
        assert client.wait(20) == 5
    assert engine.docker("logs", "cr4").out == "line 3\ngot one\ngot two\ngot end\n"


def test_another_directory_and_another_container(engine: EngineProcess, tmp_path: Path) -> None:
    """`--checkpoint-dir`: mode 0700, and a new container of the same kind goes on from it."""
    _counter(engine, "cr5")
    directory = tmp_path / "kept"
    engine.wherry("checkpoint", "create", f"--checkpoint-dir={directory}", "cr5", "moved")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in (directory / "moved").iterdir()} == {0o600}
    assert engine.wherry("checkpoint", "ls", "cr5").out == "CHECKPOINT NAME\n"
    shown = engine.wherry("checkpoint", "ls", "--checkpoint-dir", str(directory), "cr5").out
    assert shown == "CHECKPOINT NAME\nmoved\n"
    last = _logged(engine, "cr5")
    engine.docker("create", "--name", "cr6", "--tmpfs", "/scratch", "busybox", "sh", "-c", COUNTER)
    engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr6")
    _goes_on(engine, "cr6", last)
    assert _state(engine, "cr5") == "exited"
    engine.docker("stop", "-t", "0", "cr6")
    (directory / "moved" / "pages-1.img").chmod(0o666)
    failed = engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr6", code=1)
    assert "is not trusted: pages-1.img must be a plain file that only root can write" in failed.err
    engine.docker("create", "--name", "cr7", "--tmpfs", "/scratch", "--cap-drop", "chown", "busybox", "true")
    (directory / "moved" / "pages-1.img").chmod(0o600)
    failed = engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr7", code=1)
    assert "the checkpoint is of a container that is confined in another way" in failed.err
    (directory / "moved" / "wherry.json").write_text("{")
    failed = engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr7", code=1)
    assert "wherry.json cannot be read" in failed.err
    assert _state(engine, "cr7") in ("created", "exited")


def test_events_and_automatic_removal(engine: EngineProcess) -> None:
    """`checkpoint`, `die` and `start` in this order; `--rm` removes a container that its checkpoint has ended."""
    since = f"{time.time():.3f}"
    _counter(engine, "cr8")
    engine.wherry("checkpoint", "create", "cr8", "e1")
    engine.wherry("start", "--checkpoint", "e1", "cr8")
    engine.docker("kill", "cr8")
    until(lambda: _state(engine, "cr8") == "exited", "it is killed")
    until_now = f"{time.time():.3f}"
    told = engine.docker(
        *("events", "--since", since, "--until", until_now, "--format", "{{.Action}}"),
        *("--filter", "container=cr8", "--filter", "type=container"),
    ).out.split()
    assert told == ["create", "start", "checkpoint", "die", "start", "kill", "die"]
    _counter(engine, "cr9", "--rm")
    engine.wherry("checkpoint", "create", f"--checkpoint-dir={engine.base}/kept", "cr9", "e2")
    until(lambda: "cr9" not in engine.docker("ps", "-a").out, "it is removed")


def test_a_dump_that_fails_leaves_the_container_running(engine: EngineProcess) -> None:
    """A connection, which CRIU refuses; a process of exec, which would be lost; a name that is taken."""
    listen = "nc -l -p 7777 -e sleep 1000 & sleep 1000 | nc 127.0.0.1 7777 & "
    _counter(engine, "cra", command=listen + COUNTER)
    pid = _state(engine, "cra", "Pid")

    def connected() -> bool:
        return "ESTABLISHED" in Path(f"/proc/{pid}/net/tcp").read_text().replace(" 01 ", "ESTABLISHED")

    until(connected, "it is connected with itself")
    failed = engine.wherry("checkpoint", "create", "cra", "no1", code=1).err
    assert "Cannot checkpoint container cra: criu failed: type DUMP: " in failed
    assert "--tcp-established" in failed
    log = Path(failed.rpartition("log file: ")[2].strip())
    assert "connected TCP socket" in log.read_text(errors="replace").lower().replace("connected tcp", "connected TCP")
    assert (_state(engine, "cra", "Pid"), _state(engine, "cra")) == (pid, "running")
    _goes_on(engine, "cra", _logged(engine, "cra"))
    assert engine.wherry("checkpoint", "ls", "cra").out == "CHECKPOINT NAME\n"
    directory = Path(engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "cra").out.strip()))
    assert list((directory / "checkpoints").iterdir()) == []

    _counter(engine, "crb")
    with subprocess.Popen([str(BIN / "wherry"), "exec", "-i", "crb", "cat"], env=engine.env, stdin=subprocess.PIPE):
        until(lambda: "cat" in engine.docker("top", "crb", "-o", "pid,comm").out, "the exec runs")
        failed = engine.wherry("checkpoint", "create", "crb", "no2", code=1).err
        assert "processes of exec run in the container" in failed
    until(lambda: "cat" not in engine.docker("top", "crb", "-o", "pid,comm").out, "the exec has ended")
    engine.wherry("checkpoint", "create", "--leave-running", "crb", "yes")
    failed = engine.wherry("checkpoint", "create", "crb", "yes", code=1).err
    assert "checkpoint with name yes already exists for container crb" in failed
    assert _state(engine, "crb") == "running"


def test_a_killed_engine_and_a_killed_dump(own_engine: EngineProcess) -> None:
    """The monitor does the work: an engine killed meanwhile finds the checkpoint whole. One that is cut short is not
    there, what it left goes with the next, and the checkpoints outlive a restart of the engine."""
    engine = own_engine
    id_ = _counter(engine, "crk", "--restart", "unless-stopped")
    directory = Path(engine.roots.container(id_)) / "checkpoints"
    with subprocess.Popen([str(BIN / "wherry"), "checkpoint", "create", "crk", "whole"], env=engine.env) as client:
        until(directory.is_dir, "it has begun")
        engine.kill()
        assert client.wait(20) != 0
    engine.start()
    until(lambda: (directory / "whole").is_dir() or _state(engine, "crk") == "running", "the monitor is done")
    until(lambda: not list(directory.glob(".*")), "nothing is staged")
    until(lambda: not (directory / "whole").is_dir() or _state(engine, "crk") == "exited", "it has ended with it")
    if _state(engine, "crk") == "running":
        engine.wherry("checkpoint", "create", "crk", "whole")
    left = directory / f".{id_[:12]}-half"
    left.mkdir(mode=0o700)
    (left / "pages-1.img").write_bytes(b"half")
    assert engine.wherry("checkpoint", "ls", "crk").out == "CHECKPOINT NAME\nwhole\n"
    last = _logged(engine, "crk")
    engine.wherry("start", "--checkpoint", "whole", "crk")
    _goes_on(engine, "crk", last)
    engine.wherry("checkpoint", "create", "--leave-running", "crk", "next")
    assert sorted(path.name for path in directory.iterdir()) == ["next", "whole"]
    engine.kill()
    engine.start()
    _goes_on(engine, "crk", _logged(engine, "crk"))
