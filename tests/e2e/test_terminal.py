"""A person at a terminal: job control, window size, Ctrl-C, Ctrl-D, detach; through docker and through wherry."""

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.harness import BIN, EngineProcess, until
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.root

Open = Callable[..., Terminal]


@pytest.fixture(params=["docker", "wherry"])
def command(request: pytest.FixtureRequest) -> str:
    """Name each command that people type."""
    return "docker" if request.param == "docker" else str(BIN / "wherry")


@pytest.fixture
def terminal(engine: EngineProcess) -> Iterator[Open]:
    """Open terminals on the engine; they are closed after the test."""
    opened: list[Terminal] = []

    def open_(*argv: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        opened.append(Terminal(list(argv), engine.env, size))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def test_a_shell_has_job_control_and_its_exit_code(terminal: Open, command: str) -> None:
    """`run -it busybox sh` gives a shell with a terminal, job control, and `exit 3` gives 3."""
    shell = terminal(command, "run", "--rm", "-it", "busybox", "sh")
    shell.expect("# ")
    shell.type("tty; sleep 100 &\n")
    shell.expect("/dev/pts/0")
    shell.expect("# ")
    shell.type("jobs; kill %1; wait; echo done=$?\n")
    shell.expect("Running")
    shell.expect("done=")
    shell.type("exit 3\n")
    assert shell.wait() == 3


def test_the_window_follows_the_terminal(terminal: Open, command: str) -> None:
    """The container's terminal has the client's size at once, and follows when it changes."""
    shell = terminal(command, "run", "--rm", "-it", "busybox", "sh", size=(33, 101))
    shell.expect("# ")

    def has(size: str) -> bool:
        shell.type("stty size\n")
        shell.expect("stty size\r\n")
        return size in shell.expect("# ")

    until(lambda: has("33 101"), "the first size arrives")
    shell.resize(20, 60)
    until(lambda: has("20 60"), "the new size arrives")
    shell.type("exit\n")
    assert shell.wait() == 0


def test_control_c_interrupts_the_program_inside(terminal: Open, command: str) -> None:
    """Ctrl-C reaches the foreground program of the container's terminal, not the client."""
    shell = terminal(command, "run", "--rm", "-it", "busybox", "sh")
    shell.expect("# ")
    shell.type("sh -c 'echo $((40+2)) begins; exec sleep 1000'\n")
    shell.expect("42 begins\r\n")
    shell.type(b"\x03")
    shell.expect("# ")
    shell.type("echo alive\n")
    shell.expect("alive\r\n")
    shell.type(b"\x04")
    assert shell.wait() in (0, 130)


def test_control_d_ends_the_shell(terminal: Open, command: str) -> None:
    """Ctrl-D at the prompt ends the shell, and with it the container."""
    shell = terminal(command, "run", "--rm", "-it", "busybox", "sh")
    shell.expect("# ")
    shell.type(b"\x04")
    assert shell.wait() == 0


def test_detach_leaves_it_running_and_several_windows_see_the_same(
    engine: EngineProcess, terminal: Open, command: str
) -> None:
    """Two attached windows show the same; Ctrl-P Ctrl-Q leaves the container running for the other."""
    engine.docker("run", "-dit", "--name", "shared", "busybox", "sh")
    first = terminal(command, "attach", "shared")
    second = terminal(command, "attach", "shared")
    first.ready()
    second.ready()
    first.type("echo seen by both\n")
    first.expect("seen by both\r\nseen by both")
    second.expect("seen by both\r\nseen by both")
    first.type(b"\x10\x11")
    assert first.wait() == 1  # as docker: it says `read escape sequence`
    second.type("echo still $((20+3))\n")
    second.expect("still 23")
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "shared").out.strip() == "running"


def test_exec_on_a_terminal(engine: EngineProcess, terminal: Open, command: str) -> None:
    """`exec -it` has a terminal of its own and gives its exit code; the container goes on."""
    engine.docker("run", "-d", "--name", "held", "busybox", "sleep", "1000")
    shell = terminal(command, "exec", "-it", "-e", "COLOUR=blue", "-w", "/tmp", "held", "sh", size=(25, 90))
    shell.expect("# ")
    shell.type("echo $COLOUR in $(pwd)\n")
    shell.expect("blue in /tmp")

    def sized() -> bool:
        shell.type("stty size\n")
        shell.expect("stty size\r\n")
        return "25 90" in shell.expect("# ")

    until(sized, "the size arrives")
    shell.type("exit 7\n")
    assert shell.wait() == 7
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "held").out.strip() == "running"


def test_control_c_under_init_gives_130(engine: EngineProcess, terminal: Open, command: str) -> None:
    """Ctrl-C under `--init --rm` without a terminal inside ends the container with 130 and leaves nothing."""
    running = terminal(command, "run", "--init", "--rm", "--name", "interrupted", "busybox", "sleep", "1000")
    until(lambda: "interrupted" in engine.docker("ps", "--format", "{{.Names}}").out, "the container runs")
    running.type(b"\x03")
    assert running.wait() == 130
    engine.assert_nothing_runs()


def test_the_third_ctrl_c_leaves(terminal: Open, engine: EngineProcess) -> None:
    """Without `-t` each one goes to the container; whoever presses it a third time has had enough, as with docker."""
    script = "trap 'echo got' INT; echo on; while :; do sleep 0.05; done"
    client = terminal(str(BIN / "wherry"), "run", "--name", "stubborn", "busybox", "sh", "-c", script)
    try:
        client.expect("on\r\n")
        for _ in range(2):
            client.type(b"\x03")
            client.expect("got\r\n")
        client.type(b"\x03")
        client.expect("got 3 SIGTERM/SIGINTs, forcefully exiting\r\n")
        assert client.wait() == 1
        assert engine.docker("inspect", "-f", "{{.State.Running}}", "stubborn").out == "true\n"
    finally:
        engine.docker("rm", "-f", "stubborn")
