"""`wherry run -it`, `attach` and `exec` in a terminal; signals; large streams. Against a real dockerd."""

import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Docker

pytestmark = [pytest.mark.root, pytest.mark.slow]


class Terminal:
    """A command in a pseudo terminal of its own."""

    def __init__(self, docker: Docker, *command: str, rows: int = 30, columns: int = 100) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=docker.env,
            start_new_session=False,
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 15) -> None:
        """Read until the text was shown; what was read up to it is forgotten."""
        self.expect_keeping(text, seconds)
        self.output = self.output.partition(text.encode())[2]

    def expect_keeping(self, text: str, seconds: float = 15) -> None:
        """Read until the text was shown."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not shown, but {self.output!r}"
            if select.select([self.master], [], [], left)[0]:
                self.output += os.read(self.master, 65536)

    def ask(self, command: str) -> str:
        """Type a command at a shell's prompt; what it printed."""
        self.type(f"echo '<'\"$({command})\"'>'\r")
        self.expect("\r\n<")
        self.expect_keeping(">")
        answer, _, self.output = self.output.partition(b">")
        self.expect("# ")
        return answer.decode()

    def end(self, seconds: float = 15) -> int:
        """Wait for the command; its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still runs; shown: {self.output!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self.output += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.output += os.read(self.master, 65536)
        return self.process.returncode

    def restored(self) -> bool:
        """Whether the terminal's mode is what it was."""
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals to close at the end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def _open(terminals: list[Terminal], docker: Docker, *command: str) -> Terminal:
    terminals.append(Terminal(docker, *command))
    return terminals[-1]


def test_shell_in_a_terminal(docker: Docker, terminals: list[Terminal]) -> None:
    """The size is passed and followed, Ctrl-C reaches the job only, the exit code and the terminal's mode come back."""
    terminal = _open(terminals, docker, "wherry", "run", "--rm", "-it", "busybox", "sh")
    terminal.expect("# ")
    assert not terminal.restored()
    terminal.type("stty size\r")
    terminal.expect("30 100")
    terminal.expect("# ")
    terminal.resize(40, 120)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    deadline = time.monotonic() + 15
    while terminal.ask("stty size") != "40 120":
        assert time.monotonic() < deadline
    # said by the job itself: it is in the foreground then
    terminal.type("sh -c 'echo g\"\"o; exec sleep 100'\r")
    terminal.expect("go\r\n")
    terminal.type("\x03")
    terminal.expect("# ")
    terminal.type("exit 3\r")
    assert terminal.end() == 3
    assert terminal.restored()


def test_detach_and_attach_again(docker: Docker, terminals: list[Terminal]) -> None:
    """Ctrl-P Ctrl-Q leaves the container running; another terminal takes it over and sees its end."""
    terminal = _open(terminals, docker, "wherry", "run", "-it", "--name", "kept", "busybox", "sh")
    terminal.expect("# ")
    terminal.type("\x10\x11")
    assert terminal.end() == 0
    assert terminal.restored()
    assert docker.run("docker", "inspect", "-f", "{{.State.Running}}", "kept").stdout == b"true\n"
    again = _open(terminals, docker, "wherry", "attach", "kept")
    again.type("\r")
    again.expect("# ")
    again.type("\x10\x11")
    assert again.end() == 1
    assert b"read escape sequence" in again.output
    last = _open(terminals, docker, "wherry", "attach", "--detach-keys", "ctrl-x,y", "kept")
    last.type("echo \x10\x11here\r")
    last.expect("# ")
    last.type("exit 5\r")
    assert last.end() == 5
    assert last.restored()
    assert docker.run("wherry", "rm", "kept").stdout == b"kept\n"


def test_exec_in_a_terminal(docker: Docker, terminals: list[Terminal]) -> None:
    """exec -it has the terminal's size, and a signal that ends the command leaves the terminal as it was."""
    assert docker.run("wherry", "run", "-d", "--name", "execed", "busybox", "sleep", "600").returncode == 0
    terminal = _open(terminals, docker, "wherry", "exec", "-it", "execed", "sh")
    terminal.expect("# ")
    terminal.type("stty size\r")
    terminal.expect("30 100")
    terminal.type("exit 6\r")
    assert terminal.end() == 6
    assert terminal.restored()
    second = _open(terminals, docker, "wherry", "exec", "-it", "execed", "sh")
    second.expect("# ")
    os.kill(second.process.pid, signal.SIGTERM)
    assert second.end() == 128 + signal.SIGTERM
    assert second.restored()
    assert docker.run("wherry", "rm", "-f", "execed").returncode == 0


def test_signals_are_forwarded(docker: Docker) -> None:
    """A signal to the command becomes the container's, and its exit code ours."""
    script = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    with subprocess.Popen(
        ["wherry", "run", "--rm", "--init=false", "busybox", "sh", "-c", script], env=docker.env, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 9


def test_signals_stay_without_sig_proxy(docker: Docker) -> None:
    """With --sig-proxy=false the signal ends the command, and the container runs on."""
    with subprocess.Popen(
        ["wherry", "run", "--sig-proxy=false", "--name", "spared", "busybox", "sh", "-c", "echo ready; sleep 600"],
        env=docker.env,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert docker.run("docker", "inspect", "-f", "{{.State.Running}}", "spared").stdout == b"true\n"
    assert docker.run("wherry", "rm", "-f", "spared").returncode == 0


def test_large_streams_both_ways(docker: Docker) -> None:
    """Thirty megabytes in and out at the same time arrive as they were, and do not stall each other."""
    data = os.urandom(1 << 20) * 30
    done = docker.run("wherry", "run", "--rm", "-i", "busybox", "cat", stdin=data)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_both_outputs_keep_their_order(docker: Docker) -> None:
    """What a program writes to stdout and stderr comes out of the same, in order."""
    script = "i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    done = docker.run("wherry", "run", "--rm", "busybox", "sh", "-c", script)
    assert done.stdout.split() == [f"o{i}".encode() for i in range(2000)]
    assert done.stderr.split() == [f"e{i}".encode() for i in range(2000)]


def test_reader_that_goes_away(docker: Docker) -> None:
    """`| head -1` ends the command quietly."""
    done = docker.run("bash", "-c", "wherry run --rm busybox seq 1 100000 | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout.split() == [b"1", b"141"]
    assert done.stderr == b""


def test_an_output_that_is_full_is_said_in_one_line(docker: Docker) -> None:
    """Neither tables nor streams nor help end in a traceback."""
    for words in ("ps", "save busybox", "--help", "run --rm busybox seq 1 1000"):
        done = docker.run("bash", "-c", f"wherry {words} > /dev/full")
        assert (done.returncode, done.stderr) == (1, b"write /dev/stdout: no space left on device\n"), words


def test_detached_command_needs_no_stdin(docker: Docker) -> None:
    """With stdin closed the command works all the same."""
    done = docker.run("bash", "-c", "wherry run --rm busybox echo fine <&-")
    assert done.stdout == b"fine\n"


def test_cidfile(docker: Docker) -> None:
    """The id is in the file; a file that is there is refused; none is left when there is no container."""
    path = docker.directory / "cid"
    done = docker.run("wherry", "create", "--cidfile", str(path), "busybox")
    assert path.read_text() == done.stdout.decode().strip()
    again = docker.run("wherry", "create", "--cidfile", str(path), "busybox")
    assert again.returncode == 1
    assert b"container ID file found" in again.stderr
    path.unlink()
    assert docker.run("wherry", "create", "--cidfile", str(path), "--pull", "never", "nothing").returncode
    assert not path.exists()
    docker.run("wherry", "rm", done.stdout.decode().strip())


def test_follow_logs_to_the_end(docker: Docker) -> None:
    """logs -f shows what comes later, and ends with the container."""
    assert (
        docker.run(
            "wherry", "run", "-d", "--name", "talks", "busybox", "sh", "-c", "echo one; sleep 0.5; echo two >&2"
        ).returncode
        == 0
    )
    done = docker.run("wherry", "logs", "-f", "talks")
    assert (done.stdout, done.stderr) == (b"one\n", b"two\n")
    docker.run("wherry", "rm", "talks")
