"""Checkpoint and restore by CRIU, with real containers: plain functions of an engine that has busybox.

They run in the tests' virtual machine, whose kernel Debian's CRIU knows (`tests/vm/inside.py`), and on the
host where a CRIU works with the host's kernel (`test_checkpoint.py`). The wherry command alone drives them.
"""

import contextlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.harness import BIN, EngineProcess, until
from wherry.client.address import parse
from wherry.client.http import Client

NAMES = (
    "a_container_goes_on_where_it_was",
    "leave_running_and_a_pause",
    "what_surrounds_it_comes_back",
    "standard_input_and_an_attached_client",
    "another_directory_and_another_container",
    "events_and_automatic_removal",
    "a_dump_that_fails_leaves_the_container_running",
    "a_killed_engine_and_a_killed_dump",
)

# prlimit(2) of another user's process needs it, and so does CRIU
_CAPABILITIES = re.findall(r"CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())[0]
_CAN_TAKE_USERS = bool(int(_CAPABILITIES, 16) >> 24 & 1)

PATIENCE = 60
COUNTER = 'i=0; while :; do i=$((i+1)); echo $i >/scratch/n; echo "line $i"; sleep 0.05; done'


def _until(condition: Callable[[], object], what: str) -> None:
    until(condition, what, PATIENCE)


def _counter(engine: EngineProcess, name: str, *flags: str, command: str = COUNTER) -> str:
    """Run a container that counts in memory, in a tmpfs and in its log; returns its id."""
    flags = ("-d", "--name", name, "--tmpfs", "/scratch", *flags)
    id_ = engine.wherry("run", *flags, "busybox", "sh", "-c", command).out
    _until(lambda: _logged(engine, name) > 2, f"{name} counts")
    return id_.strip()


def _ask(engine: EngineProcess, path: str) -> bytes:
    """What the API answers: a command for each question takes most of a second where processors are emulated."""
    client = Client(parse(engine.host))
    try:
        return client.request("GET", path).read()
    finally:
        client.close()


def _lines(engine: EngineProcess, name: str, tail: str = "all") -> list[str]:
    """The lines that a container has written."""
    answer, lines = _ask(engine, f"/containers/{name}/logs?stdout=1&tail={tail}"), b""
    while answer:
        size = int.from_bytes(answer[4:8])
        lines, answer = lines + answer[8 : 8 + size], answer[8 + size :]
    return lines.decode().splitlines()


def _logged(engine: EngineProcess, name: str) -> int:
    lines = _lines(engine, name, "1")
    return int(lines[-1].split()[-1]) if lines else 0


def _state(engine: EngineProcess, name: str, field: str = "Status") -> str:
    return str(json.loads(_ask(engine, f"/containers/{name}/json"))["State"][field])


def _goes_on(engine: EngineProcess, name: str, beyond: int) -> None:
    _until(lambda: _logged(engine, name) > beyond, f"{name} counts beyond {beyond}")


def _writes(engine: EngineProcess, name: str) -> None:
    """Wait until its log grows."""
    before = len(_lines(engine, name))
    _until(lambda: len(_lines(engine, name)) > before + 2, f"{name} writes")


def _runs(engine: EngineProcess, name: str) -> bool:
    """Whether a program of that name runs in some container."""
    found = []
    for pid in engine.processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return name in found


def a_container_goes_on_where_it_was(engine: EngineProcess) -> None:
    """Memory, tmpfs, log, exec, stop; ended by its checkpoint, and restored twice from the same one."""
    _counter(engine, "cr1", "-e", "SHOWN=yes", "-w", "/scratch", "--restart", "always")
    assert engine.wherry("checkpoint", "create", "cr1", "first").out == "first\n"
    assert _state(engine, "cr1") == "exited"
    assert _state(engine, "cr1", "ExitCode") == "137"
    assert engine.wherry("wait", "cr1").out == "137\n"
    assert engine.wherry("checkpoint", "ls", "cr1").out == "CHECKPOINT NAME\nfirst\n"
    seen = [int(line.split()[1]) for line in _lines(engine, "cr1")]
    assert seen == list(range(1, len(seen) + 1))
    for _ in range(2):
        assert engine.wherry("start", "--checkpoint", "first", "cr1").out == ""
        assert (_state(engine, "cr1"), _state(engine, "cr1", "Running")) == ("running", "True")
        _writes(engine, "cr1")
        look = "cat /scratch/n; ps; tr '\\0' '\\n' </proc/1/environ; readlink /proc/1/cwd"
        shown = engine.wherry("exec", "cr1", "sh", "-c", look).out
        assert int(shown.split()[0]) > len(seen)
        assert "sleep" in shown
        assert {"SHOWN=yes", "/scratch"} <= set(shown.splitlines())
        engine.wherry("stop", "-t", "0", "cr1")
        assert _state(engine, "cr1", "ExitCode") == "137"
    values = [int(line.split()[1]) for line in _lines(engine, "cr1")]
    assert values.count(len(seen) + 1) == 2, "both went on after the last line of the first"
    assert values.count(1) == 1, "none began anew"
    assert engine.wherry("checkpoint", "rm", "cr1", "first").out == ""
    assert engine.wherry("checkpoint", "ls", "cr1").out == "CHECKPOINT NAME\n"


def leave_running_and_a_pause(engine: EngineProcess) -> None:
    """The container goes on, under the same pid; a paused one stays paused; both can be restored, to run."""
    _counter(engine, "cr2", "--network", "none")
    pid = _state(engine, "cr2", "Pid")
    engine.wherry("checkpoint", "create", "--leave-running", "cr2", "alive")
    assert _state(engine, "cr2", "Pid") == pid
    _goes_on(engine, "cr2", _logged(engine, "cr2"))
    engine.wherry("pause", "cr2")
    engine.wherry("checkpoint", "create", "--leave-running", "cr2", "paused")
    assert _state(engine, "cr2") == "paused"
    engine.wherry("checkpoint", "create", "cr2", "ended")
    assert _state(engine, "cr2") == "exited"
    assert engine.wherry("checkpoint", "ls", "cr2").out == "CHECKPOINT NAME\nalive\nended\npaused\n"
    for name in ("alive", "ended"):
        engine.wherry("start", "--checkpoint", name, "cr2")
        _writes(engine, "cr2")
        engine.wherry("kill", "cr2")


def what_surrounds_it_comes_back(engine: EngineProcess) -> None:
    """A volume and binds (one of them read-only), a user, a read-only root, limits, seccomp, a published port."""
    there = engine.base / "cr3"
    (there / "ro").mkdir(parents=True)
    (there / "ro" / "file").write_text("from the host\n")
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
    mounts = ("-v", "cr3data:/data", "-v", f"{there}/ro:/ro:ro", "--tmpfs", "/own:mode=700,uid=1000")
    _counter(engine, "cr3", *flags, *mounts, "--security-opt", "no-new-privileges", command=server)

    def answer() -> str:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            return client.recv(100).decode()

    names = "Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp"
    questions = {
        # in the unified tree it is the host's mount, whose source may have another name
        "mounts": "cut -d' ' -f5- /proc/1/mountinfo | grep -v ' - overlay ' | sed 's/cgroup2 [^ ]*/cgroup2/' | sort",
        "root": "grep ' - overlay ' /proc/1/mountinfo | cut -d' ' -f5,6",
        "status": f"grep -E '^({names}):' /proc/1/status",
        "pids": "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max",
        "cgroup": "cat /proc/1/cgroup",
        "limit": "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max",
        "devices": "ls -l /dev | tr -s ' ' | cut -d' ' -f1-6,10-",
        "files": "cat /ro/file; hostname; cat /etc/hostname; ls -ld /own",
        "sysctl": "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range",
    }
    script = "".join(f"echo '== {name}'; {{ {question}; }} 2>/dev/null; " for name, question in questions.items())

    def look() -> dict[str, str]:
        """What of the container must be as it was."""
        answers = engine.wherry("exec", "-u", "0", "cr3", "sh", "-c", script + "true").out.split("== ")[1:]
        return {name: text for name, _, text in (answer.partition("\n") for answer in answers)}

    assert answer() == "kept\n"
    _until(lambda: "8080" in engine.wherry("exec", "cr3", "netstat", "-ltn").out, "it listens again")
    before = look()
    engine.wherry("checkpoint", "create", "cr3", "all1")
    engine.wherry("start", "--checkpoint", "all1", "cr3")
    after = look()
    assert before.keys() == questions.keys()
    assert all(before.values()), before
    for what, value in before.items():
        assert after[what] == value, f"{what}: {after[what]}"
    _until(lambda: "8080" in engine.wherry("exec", "cr3", "netstat", "-ltn").out, "it listens")
    assert answer() == "kept\n"
    touch = "touch /ro/x; touch /x; touch /data/x && echo made"
    touched = engine.wherry("exec", "-u", "0", "cr3", "sh", "-c", touch)
    assert (touched.out, touched.err.count("Read-only file system")) == ("made\n", 2)
    engine.wherry("rm", "-f", "cr3")
    engine.wherry("volume", "rm", "cr3data")


def standard_input_and_an_attached_client(engine: EngineProcess) -> None:
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
        assert client.wait(PATIENCE) == 5
    assert engine.wherry("logs", "cr4").out == "line 3\ngot one\ngot two\ngot end\n"


def another_directory_and_another_container(engine: EngineProcess) -> None:
    """`--checkpoint-dir`: mode 0700, and a new container of the same kind goes on from it."""
    _counter(engine, "cr5")
    directory = engine.base / "cr5" / "kept"
    engine.wherry("checkpoint", "create", f"--checkpoint-dir={directory}", "cr5", "moved")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in (directory / "moved").iterdir()} == {0o600}
    assert engine.wherry("checkpoint", "ls", "cr5").out == "CHECKPOINT NAME\n"
    shown = engine.wherry("checkpoint", "ls", "--checkpoint-dir", str(directory), "cr5").out
    assert shown == "CHECKPOINT NAME\nmoved\n"
    last = _logged(engine, "cr5")
    engine.wherry("create", "--name", "cr6", "--tmpfs", "/scratch", "busybox", "sh", "-c", COUNTER)
    engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr6")
    _goes_on(engine, "cr6", last)
    assert _state(engine, "cr5") == "exited"
    engine.wherry("stop", "-t", "0", "cr6")
    (directory / "moved" / "pages-1.img").chmod(0o666)
    failed = engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr6", code=1)
    assert "is not trusted: pages-1.img must be a plain file that only root can write" in failed.err
    engine.wherry("create", "--name", "cr7", "--tmpfs", "/scratch", "--cap-drop", "chown", "busybox", "true")
    (directory / "moved" / "pages-1.img").chmod(0o600)
    failed = engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr7", code=1)
    assert "the checkpoint is of a container that is confined in another way" in failed.err
    (directory / "moved" / "wherry.json").write_text("{")
    failed = engine.wherry("start", "--checkpoint", "moved", "--checkpoint-dir", str(directory), "cr7", code=1)
    assert "wherry.json cannot be read" in failed.err
    assert _state(engine, "cr7") in ("created", "exited")


def events_and_automatic_removal(engine: EngineProcess) -> None:
    """`checkpoint`, `die` and `start` in this order; `--rm` removes a container that its checkpoint has ended."""
    since = f"{time.time():.3f}"
    _counter(engine, "cr8")
    engine.wherry("checkpoint", "create", "cr8", "e1")
    engine.wherry("start", "--checkpoint", "e1", "cr8")
    engine.wherry("kill", "cr8")
    _until(lambda: _state(engine, "cr8") == "exited", "it is killed")
    until_now = f"{time.time():.3f}"
    told = engine.wherry(
        *("events", "--since", since, "--until", until_now, "--format", "{{.Action}}"),
        *("--filter", "container=cr8", "--filter", "type=container"),
    ).out.split()
    assert told == ["create", "start", "checkpoint", "die", "start", "kill", "die"]
    _counter(engine, "cr9", "--rm")
    engine.wherry("checkpoint", "create", f"--checkpoint-dir={engine.base}/kept", "cr9", "e2")
    _until(lambda: "cr9" not in engine.wherry("ps", "-a").out, "it is removed")


def a_dump_that_fails_leaves_the_container_running(engine: EngineProcess) -> None:
    """A connection, which CRIU refuses; a process of exec, which would be lost; a name that is taken."""
    connect = "until nc 127.0.0.1 7777; do sleep 0.1; done"
    listen = f"nc -l -p 7777 -e sleep 1000 & sleep 1000 | ({connect}) & "
    _counter(engine, "cra", command=listen + COUNTER)
    pid = _state(engine, "cra", "Pid")

    def connected() -> bool:
        return "ESTABLISHED" in Path(f"/proc/{pid}/net/tcp").read_text().replace(" 01 ", "ESTABLISHED")

    _until(connected, "it is connected with itself")
    failed = engine.wherry("checkpoint", "create", "cra", "no1", code=1).err
    assert "Cannot checkpoint container cra: criu failed: type DUMP: " in failed
    assert "--tcp-established" in failed
    log = Path(failed.rpartition("log file: ")[2].strip())
    assert "connected TCP socket" in log.read_text(errors="replace").lower().replace("connected tcp", "connected TCP")
    assert (_state(engine, "cra", "Pid"), _state(engine, "cra")) == (pid, "running")
    _goes_on(engine, "cra", _logged(engine, "cra"))
    assert engine.wherry("checkpoint", "ls", "cra").out == "CHECKPOINT NAME\n"
    directory = Path(engine.roots.container(engine.wherry("inspect", "-f", "{{.Id}}", "cra").out.strip()))
    assert list((directory / "checkpoints").iterdir()) == []

    _counter(engine, "crb")
    with subprocess.Popen([str(BIN / "wherry"), "exec", "-i", "crb", "cat"], env=engine.env, stdin=subprocess.PIPE):
        _until(lambda: _runs(engine, "cat"), "the exec runs")
        failed = engine.wherry("checkpoint", "create", "crb", "no2", code=1).err
        assert "processes of exec run in the container" in failed
    _until(lambda: not _runs(engine, "cat"), "the exec has ended")
    engine.wherry("checkpoint", "create", "--leave-running", "crb", "yes")
    failed = engine.wherry("checkpoint", "create", "crb", "yes", code=1).err
    assert "checkpoint with name yes already exists for container crb" in failed
    assert _state(engine, "crb") == "running"


def a_killed_engine_and_a_killed_dump(engine: EngineProcess) -> None:
    """The monitor does the work: an engine killed meanwhile finds the checkpoint whole. One that is cut short is not
    there, what it left goes with the next, and the checkpoints outlive a restart of the engine."""
    id_ = _counter(engine, "crk", "--restart", "unless-stopped")
    directory = Path(engine.roots.container(id_)) / "checkpoints"
    with subprocess.Popen([str(BIN / "wherry"), "checkpoint", "create", "crk", "whole"], env=engine.env) as client:
        _until(directory.is_dir, "it has begun")
        engine.kill()
        assert client.wait(PATIENCE) != 0
    engine.start()
    _until(lambda: (directory / "whole").is_dir() or _state(engine, "crk") == "running", "the monitor is done")
    _until(lambda: not list(directory.glob(".*")), "nothing is staged")
    _until(lambda: not (directory / "whole").is_dir() or _state(engine, "crk") == "exited", "it has ended with it")
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
