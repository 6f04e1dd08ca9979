"""Questions to the person at the terminal."""

import os

from wherry.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal  # the half of `signal` that does not import `enum`


def ask(question: str, *, secret: bool = False) -> str:
    """Print a question and return the line that is typed, without blanks around it; empty at the end of input.

    A signal that ends the command restores the terminal first and ends the line, so that the shell's prompt is at the
    start of the next one.

    Args:
        question: what is printed, without a line's end.
        secret: do not show what is typed. Standard input must be a terminal then.
    """
    shown = _attributes() if secret else None

    def end(number: int, _frame: object) -> None:
        _restore(shown)
        write_all(1, b"\n")
        os._exit(128 + number)

    before = {}
    try:
        for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM):
            before[number] = _signal.signal(number, end)
    except ValueError:  # not the main thread: a program that calls us keeps its own
        before.clear()
    try:
        if shown is not None:
            _hide(shown)
        write_all(1, question.encode("utf-8", "surrogateescape"))
        return _line()
    finally:
        for number, handler in before.items():
            _signal.signal(number, handler)
        _restore(shown)
        if secret:
            write_all(1, b"\n")


def _line() -> str:
    # a byte at a time: what follows is somebody else's input
    data = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        data += byte
    return data.decode("utf-8", "surrogateescape").strip()


def _attributes() -> "list[Any]":
    import termios

    return termios.tcgetattr(0)


def _hide(attributes: "list[Any]") -> None:
    import termios

    silent = [*attributes[:3], attributes[3] & ~termios.ECHO, *attributes[4:]]
    termios.tcsetattr(0, termios.TCSAFLUSH, silent)


def _restore(attributes: "list[Any] | None") -> None:
    if attributes is not None:
        import termios

        try:
            termios.tcsetattr(0, termios.TCSAFLUSH, attributes)
        except termios.error:  # the terminal is gone
            return
