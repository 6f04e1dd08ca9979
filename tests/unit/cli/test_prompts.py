"""Questions of the commands at a terminal: what is typed, and what a signal leaves behind."""

import os
import termios
from pathlib import Path

import pytest
from tests.e2e.harness import BIN
from tests.e2e.terminal import Terminal

# nobody listens there: a question comes before the engine is asked
_NOWHERE = {"WHERRY_HOST": "tcp://127.0.0.1:1", "PATH": os.environ.get("PATH", os.defpath)}
_LOGIN = [str(BIN / "wherry"), "login", "registry.example:5000"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a command without an engine, and without anybody's credentials."""
    return {**_NOWHERE, "DOCKER_CONFIG": str(tmp_path)}


def _echoes(terminal: Terminal) -> bool:
    return bool(termios.tcgetattr(terminal.master)[3] & termios.ECHO)


def test_ctrl_c_at_a_password_leaves_a_terminal_that_shows_what_is_typed(env: dict[str, str]) -> None:
    """The echo is switched on again, and the shell's prompt is not beside the question."""
    terminal = Terminal(_LOGIN, env)
    try:
        terminal.expect("Username: ")
        assert _echoes(terminal)
        terminal.type("alice\r")
        terminal.expect("Password: ")
        assert not _echoes(terminal)
        terminal.type("\x03")
        # only now: the other side of a pseudo terminal keeps its attributes while this side is open
        kept = os.dup(terminal.master)
        try:
            assert terminal.wait() == 130
            assert termios.tcgetattr(kept)[3] & termios.ECHO
        finally:
            os.close(kept)
        assert terminal.seen.endswith(b"\r\n")
    finally:
        terminal.close()


_REGISTRY = [str(BIN / "wherry-registry"), "user", "add", "bob", "--root"]


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (_LOGIN, "Username: "),
        ([str(BIN / "wherry"), "container", "prune"], "[y/N] "),
        ([str(BIN / "wherry"), "builder", "prune"], "[y/N] "),
        ([*_REGISTRY, "/nowhere"], "Password: "),
    ],
)
def test_ctrl_c_at_a_question_ends_its_line(env: dict[str, str], words: list[str], question: str) -> None:
    """As after docker's: exit code 130, and the next prompt at the start of a line."""
    terminal = Terminal(words, env)
    try:
        terminal.expect(question)
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert terminal.seen.endswith(b"\r\n")
    finally:
        terminal.close()


def test_a_password_is_not_shown(env: dict[str, str]) -> None:
    """What is typed at `Password:` is never on the screen; the line ends all the same."""
    terminal = Terminal(_LOGIN, env)
    try:
        terminal.expect("Username: ")
        terminal.type("alice\r")
        terminal.expect("Password: ")
        terminal.type("swordfish\r")
        assert terminal.wait() == 1
        assert b"swordfish" not in terminal.seen and terminal.seen.startswith(b"\r\n")
        assert b"Cannot connect" in terminal.seen
    finally:
        terminal.close()
