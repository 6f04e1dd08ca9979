"""`wherry-runtime`, run as dockerd's and podman's shims run it."""

import array
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cgroups import branches, needs, unified
from tests.runtime.conftest import RuntimeCommand, busybox_root
from wherry.linux.files import write_atomic
from wherry.runtime.default_spec import default_spec

pytestmark = pytest.mark.root


class Bundle:
    """A bundle directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bundle"
        self.path.mkdir()
        busybox_root(self.path / "rootfs")
        self.config = default_spec()
        self.config["process"].update(terminal=False, rlimits=[])
        self.config["root"]["readonly"] = False
        self.args("true")

    def args(self, *args: str) -> None:
        self.config["process"]["args"] = list(args)
        self.save()

    def save(self) -> None:
        write_atomic(str(self.path / "config.json"), json.dumps(self.config).encode(), durable=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


def status(runtime: RuntimeCommand, name: str) -> str:
    return str(json.loads(runtime("state", name).stdout)["status"])


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens elsewhere."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 10 s"
        time.sleep(0.01)


_IN_CHROOT = """mount --rbind / "$1"; jail=$1; shift
exec chroot "$jail" sh -c 'cd "$0" && exec "$@"' "$@" """


def test_exec_in_a_chroot_is_in_the_container(runtime: RuntimeCommand, bundle: Bundle, tmp_path: Path) -> None:
    """Created and executed into from a chroot, with the bundle named from where one is: its root is its own."""
    bundle.args("sh", "-c", "echo here >/inside; exec sleep 60")
    jail, output = tmp_path / "jail", tmp_path / "output"
    jail.mkdir()

    def inside(*words: str) -> str:
        wrapped = ("unshare", "-m", "--propagation", "private", "sh", "-ec", _IN_CHROOT, "sh", str(jail))
        with open(output, "w") as file:  # a container in the background keeps it open
            done = subprocess.run(
                [*wrapped, str(bundle.path), *runtime.words, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=60,
                check=False,
            )
        text = output.read_text()
        assert done.returncode == 0, text
        return text

    inside("create", "--bundle", ".", "box")
    inside("start", "box")
    until((bundle.path / "rootfs/inside").exists)
    assert inside("exec", "box", "cat", "/inside") == "here\n"


def test_life_of_a_container(runtime: RuntimeCommand, bundle: Bundle, tmp_path: Path) -> None:
    """created, running, paused, running, stopped, gone; each step is refused out of its order."""
    bundle.args("sh", "-c", "echo started > /tmp/started; sleep 60")
    started = bundle.path / "rootfs/tmp/started"
    pid_file = tmp_path / "pid"
    create = ("create", "--bundle", str(bundle.path), "--pid-file", str(pid_file), "box")
    with open(os.devnull, "w") as null:
        subprocess.run([*runtime.words, *create], check=True, stdin=null, stdout=null, stderr=null)
    document = json.loads(runtime("state", "box").stdout)
    assert document["status"] == "created"
    assert document["pid"] == int(pid_file.read_text())
    assert not started.exists()
    assert "already exists" in runtime(*create).stderr
    assert runtime("start", "box").returncode == 0
    until(started.exists)
    assert status(runtime, "box") == "running"
    assert "already running" in runtime("start", "box").stderr
    assert "not stopped" in runtime("delete", "box").stderr
    assert runtime("exec", "--cwd", "/etc", "--env", "A=b", "box", "sh", "-c", "pwd; echo $A").stdout == "/etc\nb\n"
    assert runtime("exec", "box", "sh", "-c", "exit 5").returncode == 5
    assert runtime("pause", "box").returncode == 0
    assert status(runtime, "box") == "paused"
    assert "paused" in runtime("exec", "box", "true").stderr
    assert runtime("resume", "box").returncode == 0
    assert document["pid"] in json.loads(runtime("ps", "--format", "json", "box").stdout)
    assert [item["id"] for item in json.loads(runtime("list", "--format", "json").stdout)] == ["box"]
    assert runtime("kill", "box", "SIGKILL").returncode == 0
    until(lambda: status(runtime, "box") == "stopped")
    assert "container not running" in runtime("kill", "box").stderr
    assert runtime("delete", "box").returncode == 0
    assert "container does not exist" in runtime("state", "box").stderr
    assert runtime("delete", "--force", "box").returncode == 0


@needs("pids")
def test_update_changes_a_limit(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The new limit is in the cgroup of the container."""
    bundle.args("sleep", "60")
    with open(os.devnull, "w") as null:
        create = ("create", "--bundle", str(bundle.path), "box")
        subprocess.run([*runtime.words, *create], check=True, stdin=null, stdout=null, stderr=null)
    assert runtime("start", "box").returncode == 0
    assert runtime("update", "--pids-limit", "33", "box").returncode == 0
    pid = json.loads(runtime("state", "box").stdout)["pid"]
    paths = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    (path,) = (path for _, names, path in paths if names == ("" if unified() else "pids"))
    assert [(top / "pids.max").read_text() for top in branches(path) if (top / "pids.max").exists()] == ["33\n"]


def test_run_gives_the_exit_code_and_leaves_nothing(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Foreground: output, exit code, and no state afterwards."""
    bundle.args("sh", "-c", "echo out; exit 42")
    result = runtime("run", "-b", str(bundle.path), "box")
    assert (result.returncode, result.stdout) == (42, "out\n")
    bundle.args("sh", "-c", "kill -9 $$")
    assert runtime("run", "-b", str(bundle.path), "box").returncode in (
        137,
        0,
    )  # process 1 cannot be killed from inside
    assert runtime("list", "-q").stdout == ""


def test_run_passes_signals_on(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A signal for the command is the program's."""
    bundle.args("sh", "-c", "trap 'echo got; exit 9' TERM; echo ready; while true; do sleep 0.05; done")
    process = subprocess.Popen(
        [*runtime.words, "run", "-b", str(bundle.path), "box"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "got\n"
    assert process.wait(10) == 9
    process.stdout.close()


def test_failed_start_says_why_in_the_log(runtime: RuntimeCommand, bundle: Bundle, tmp_path: Path) -> None:
    """Shims read the last line of the JSON log; nothing of the container stays."""
    bundle.args("nope")
    log = tmp_path / "log.json"
    result = runtime("--log", str(log), "--log-format", "json", "create", "-b", str(bundle.path), "box")
    assert result.returncode == 1
    entry = json.loads(log.read_text().splitlines()[-1])
    assert entry["level"] == "error"
    assert entry["msg"] == (
        "wherry-runtime create failed: unable to start container process: "
        'exec: "nope": executable file not found in $PATH'
    )
    assert runtime("list", "-q").stdout == ""


def test_terminal_goes_to_the_console_socket(
    runtime: RuntimeCommand, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master is sent to whoever listens; without a socket a detached terminal is refused."""
    bundle.config["process"]["terminal"] = True
    bundle.args("sh", "-c", "tty; sleep 60")
    monkeypatch.chdir(tmp_path)
    assert "console socket" in runtime("create", "-b", str(bundle.path), "box").stderr
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("console.sock")
        listener.listen()
        result = runtime("run", "-d", "-b", str(bundle.path), "--console-socket", "console.sock", "box")
        assert result.returncode == 0, result.stderr
        connection, _ = listener.accept()
        with connection:
            name, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
    master = array.array("i", ancillary[0][2])[0]
    try:
        assert name == b"/dev/ptmx"
        assert os.read(master, 100) == b"/dev/pts/0\r\n"
    finally:
        os.close(master)


def test_foreground_terminal_is_relayed(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A person's terminal is put in raw mode, lent its size, and given back."""
    bundle.config["process"]["terminal"] = True
    bundle.args("sh", "-c", "read line; echo [$line]; busybox stty size; exit 4")
    master, slave = pty.openpty()
    from wherry.linux.terminal import set_size

    set_size(slave, 40, 90)
    process = subprocess.Popen(
        [*runtime.words, "run", "-b", str(bundle.path), "box"], stdin=slave, stdout=slave, stderr=slave
    )
    try:
        os.write(master, b"hello\n")
        output = b""
        while b"40 90" not in output:
            assert select.select([master], [], [], 10)[0], output
            output += os.read(master, 1000)
        assert b"[hello]" in output
        assert process.wait(10) == 4
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_a_resized_window_resizes_the_containers_terminal(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """SIGWINCH for the command: the program in the foreground sees the new size."""
    from wherry.linux.terminal import set_size

    bundle.config["process"]["terminal"] = True
    bundle.args(
        "sh", "-c", "busybox stty size; until busybox stty size | grep -x '50 100'; do sleep 0.05; done; exit 4"
    )
    master, slave = pty.openpty()
    set_size(slave, 40, 90)
    process = subprocess.Popen(
        [*runtime.words, "run", "-b", str(bundle.path), "box"], stdin=slave, stdout=slave, stderr=slave
    )
    try:
        output = b""
        for size, next_size in ((b"40 90\r\n", (50, 100)), (b"50 100\r\n", None)):
            while size not in output:
                assert select.select([master], [], [], 20)[0], output
                output += os.read(master, 1000)
            if next_size:
                set_size(slave, *next_size)
                process.send_signal(signal.SIGWINCH)
        assert process.wait(20) == 4
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_hooks_run_at_their_commands_and_see_the_state(runtime: RuntimeCommand, bundle: Bundle, tmp_path: Path) -> None:
    """`create`, `start` and `delete` run theirs once; the state has the pid as long as there is a process."""
    log = tmp_path / "log"
    text = f'{{ echo "$0"; cat; echo; }} >> {log}'
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", text, kind], "env": ["PATH=/bin:/usr/bin"]}]
        for kind in ("createRuntime", "poststart", "poststop")
    }
    bundle.args("sleep", "60")

    def seen() -> list[tuple[str, str, int | None]]:
        lines = log.read_text().splitlines()
        states = [json.loads(line) for line in lines[1::2]]
        assert {state["id"] for state in states} == {"box"}
        return [(kind, state["status"], state.get("pid")) for kind, state in zip(lines[::2], states, strict=True)]

    with open(os.devnull, "w") as null:
        create = ("create", "--bundle", str(bundle.path), "box")
        subprocess.run([*runtime.words, *create], check=True, stdin=null, stdout=null, stderr=null)
    pid = json.loads(runtime("state", "box").stdout)["pid"]
    assert seen() == [("createRuntime", "creating", pid)]
    assert runtime("start", "box").returncode == 0
    assert seen()[1:] == [("poststart", "running", pid)]
    assert runtime("delete", "--force", "box").returncode == 0
    assert seen()[2:] == [("poststop", "stopped", None)]


def test_preserved_descriptors_are_the_only_ones(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """`--preserve-fds 1` passes descriptor 3, and no other."""
    bundle.args("sh", "-c", "ls /proc/self/fd; cat <&3")
    read, write = os.pipe()
    os.write(write, b"through\n")
    os.close(write)
    try:
        words = [*runtime.words, "run", "--preserve-fds", "1", "-b", str(bundle.path), "box"]
        shift = f"import os, sys; os.dup2({read}, 3); os.execv(sys.argv[1], sys.argv[1:])"
        result = subprocess.run(
            [sys.executable, "-S", "-c", shift, *words],
            pass_fds=[read],
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(read)
    assert result.stdout == "0\n1\n2\n3\n4\nthrough\n", result.stderr  # 4 is what ls opened


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--systemd-cgroup", "list"], "--systemd-cgroup is not supported"),
        (["frobnicate"], 'unknown command "frobnicate"'),
        (["state"], '"state" requires exactly 1 argument(s), got 0'),
        (["state", "../x"], "invalid container id format"),
        (["kill", "--what", "x"], "flag provided but not defined: --what"),
        (["create", "--no-pivot", "x"], "--no-pivot is not supported"),
        (["checkpoint", "x"], "checkpoint is not supported"),
    ],
)
def test_what_is_refused_is_named(runtime: RuntimeCommand, args: list[str], words: str) -> None:
    """An error names what it is about."""
    result = runtime(*args)
    assert result.returncode == 1
    assert words in result.stderr.replace('\\"', '"')


def test_seccomp_profile_of_the_bundle_is_applied(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A call that the profile forbids fails, in run and in exec."""
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    bundle.config["process"]["noNewPrivileges"] = False
    bundle.args("sh", "-c", "mkdir /tmp/x; grep Seccomp: /proc/self/status")
    result = runtime("run", "-b", str(bundle.path), "box")
    assert "not supported" in result.stderr
    assert result.stdout == "Seccomp:\t2\n"
