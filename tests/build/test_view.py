"""What `wherry build` shows on a terminal and in a file, and what Ctrl-C does to it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import WHERRY, build
from tests.e2e.harness import until
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.root


@contextmanager
def on_terminal(context: Context, dockerfile: str, **variables: str) -> Iterator[Terminal]:
    """Build on a terminal, with these environment variables."""
    context.write("Dockerfile", dockerfile)
    env = {**context.engine.env, "TERM": "xterm", **variables}
    terminal = Terminal([WHERRY, "build", "--no-cache", str(context.directory)], env)
    try:
        yield terminal
    finally:
        terminal.close()


def test_lines_that_end_in_crlf_are_shown(context: Context) -> None:
    """In the account of a step, and in what is repeated when it fails; a line that is drawn anew stays whole."""
    crlf = r"printf 'one\r\ntwo\r\n10%%\r20%%\r\nend\r'"
    told = build(context, f"FROM busybox\nRUN {crlf}\n").err
    step = re.search(r"^(#\d+) .*RUN printf", told, re.MULTILINE)
    assert step is not None
    lines = re.findall(rf"^{step[1]} \d+\.\d{{3}} (.*)$", told, re.MULTILINE)
    assert lines == ["one", "two", "10%\r20%", "end"]
    failed = build(context, f"FROM busybox\nRUN {crlf}; exit 7\n", code=1).err
    assert "one\ntwo\n10%\r20%\nend\n------\n" in failed


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["plain", "NO_COLOR", "dumb"])
def test_what_the_environment_says_of_colours_is_heard(context: Context, variables: dict[str, str]) -> None:
    """NO_COLOR leaves colours out, TERM=dumb every control sequence."""
    with on_terminal(context, "FROM busybox\nRUN echo shown\n", **variables) as terminal:
        assert terminal.wait() == 0
        seen = terminal.seen.decode()
    assert "RUN echo shown" in seen
    assert ("\x1b[34m" in seen) == (not variables)
    assert ("\x1b" in seen) == ("TERM" not in variables)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_ctrl_c_says_what_was_canceled(context: Context, term: str) -> None:
    """The running step is CANCELED, and the prompt comes on a line of its own; the engine ends the step."""
    dockerfile = "FROM busybox\nRUN echo beg''un; sleep 987654\n"
    with on_terminal(context, dockerfile, TERM=term) as terminal:
        terminal.expect("begun")
        terminal.type(b"\x03")
        terminal.expect("CANCELED")
        terminal.expect("failed to solve: Canceled: context canceled\r\n")
        assert terminal.wait() == 130
        assert terminal.seen == b""
    until(lambda: not any(b"987654" in line for line in _command_lines()), "the step is ended")


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue
