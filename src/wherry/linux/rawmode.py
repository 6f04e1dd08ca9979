"""A terminal in raw mode (termios(3)). On its own because the `wherry` command imports it, and almost nothing else."""

import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make_raw(fd: int) -> "list[Any]":
    """Switch a terminal to raw mode, output included.

    Returns:
        The attributes that it had, as `termios.tcsetattr` takes them.

    Raises:
        termios.error: `fd` is no terminal.
    """
    before: list[Any] = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    raw[1] &= ~termios.OPOST
    raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, raw)
    return before
