"""The caller's terminal: raw mode that is always undone, its size, and the keys that detach."""

import os
import termios

from wherry.cli.failure import Failure
from wherry.linux.rawmode import make_raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal  # the half of `signal` that does not import `enum`

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class RawTerminal:
    """Stdin's terminal in raw mode, from `enter` to `leave`.

    A signal that would end this process leaves it first, if it still had its usual action.
    """

    def __init__(self) -> None:
        self._saved: list[Any] | None = None

    def enter(self) -> None:
        """Switch to raw mode. Raises `Failure` when stdin is no terminal."""
        try:
            self._saved = make_raw(0)
        except termios.error:
            raise Failure("the input device is not a TTY") from None
        for number in (_signal.SIGHUP, _signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT):
            handler = _signal.getsignal(number)
            if handler == _signal.SIG_DFL or getattr(handler, "__name__", "") == "_ended_by_signal":
                _signal.signal(number, self._leave_and_end)

    def leave(self) -> None:
        """Restore what was; harmless when there is nothing to restore."""
        if self._saved is not None:
            saved, self._saved = self._saved, None
            try:
                termios.tcsetattr(0, termios.TCSANOW, saved)
            except termios.error:  # the terminal is gone: nobody is left to mind
                return

    def _leave_and_end(self, number: int, _frame: object) -> None:
        self.leave()
        os._exit(128 + number)


def window_size(fd: int = 1) -> "tuple[int, int]":
    """(rows, columns) of a terminal, (0, 0) where there is none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return size.lines, size.columns


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` as the bytes that a terminal sends. Raises `Failure`."""
    keys = bytearray()
    for key in text.split(","):
        if key.startswith("ctrl-") and len(key) == 6 and ("a" <= key[5] <= "z" or key[5] in "@[\\]^_"):
            keys.append(ord(key[5].upper()) - 64)
        elif len(key) == 1:
            keys += key.encode()
        else:
            raise Failure(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(keys)


class DetachWatch:
    """Looks for the detach keys in what is typed; holds a beginning of them back until it is decided."""

    __slots__ = ("_keys", "_seen")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> "tuple[bytes, bool]":
        """What of it to pass on, and whether the keys are complete."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self._seen = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 0
            if byte == self._keys[0] and len(self._keys) > 1:
                self._seen = 1
            else:
                passed.append(byte)
        return bytes(passed), False
