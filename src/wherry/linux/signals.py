"""Signals without the `signal` module, which makes enum members of every number that passes: 2 ms in a fresh child."""

import _signal  # type: ignore[import-not-found]
import os

from wherry.linux.libc import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIGHUP: int = _signal.SIGHUP
SIGINT: int = _signal.SIGINT
SIGQUIT: int = _signal.SIGQUIT
SIGKILL: int = _signal.SIGKILL
SIGPIPE: int = _signal.SIGPIPE
SIGTERM: int = _signal.SIGTERM
SIGCHLD: int = _signal.SIGCHLD
SIGSTOP: int = _signal.SIGSTOP
SIGWINCH: int = _signal.SIGWINCH
SIGXFSZ: int = _signal.SIGXFSZ

EVERY: "frozenset[int]" = frozenset(_signal.valid_signals())
# name without "SIG" -> number
NUMBERS: "dict[str, int]" = {
    name[3:]: int(getattr(_signal, name)) for name in dir(_signal) if name.startswith("SIG") and name[3] != "_"
}
_DEFAULT = _signal.SIG_DFL

# SIGCANCEL and SIGSETXID: whoever started us may have had them ignored, and exec keeps that
_OF_THE_LIBRARY = (32, 33)
_RT_SIGACTION = {"x86_64": 13}.get(os.uname().machine, 134)
_NO_ACTION = b"\0" * 32


def block(signals: "Iterable[int]" = EVERY) -> "set[int]":
    """Block `signals` and return the mask as it was."""
    before: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
    return before


def set_mask(signals: "Iterable[int]") -> None:
    """Block exactly `signals`."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, signals)


def wait(signals: "Iterable[int]") -> int:
    """Wait for one of `signals`, which are blocked, and take it."""
    return int(_signal.sigwait(signals))


def handle(number: int, handler: "Callable[[int, object], None]") -> None:
    """Call `handler(number, frame)` when the signal comes."""
    _signal.signal(number, handler)


def ignore(number: int) -> None:
    """Let the signal pass without effect."""
    _signal.signal(number, _signal.SIG_IGN)


def default(number: int) -> None:
    """Give the signal its default action."""
    _signal.signal(number, _DEFAULT)


def parse(word: str) -> int | None:
    """Number of a signal written `15`, `TERM` or `SIGTERM`, in any case; None if there is no such signal."""
    if word.isascii() and word.isdigit():
        number = int(word)
        return number if 0 < number < 65 else None
    name = word.upper()
    return NUMBERS.get(name[3:] if name.startswith("SIG") else name)


def reset() -> None:
    """Give every signal its default action and unblock all: Python ignores SIGPIPE and SIGXFSZ, and exec keeps that."""
    for number in EVERY:
        handler = _signal.getsignal(number)
        if handler != _DEFAULT and handler is not None:
            _signal.signal(number, _DEFAULT)
    for number in _OF_THE_LIBRARY:
        _raw_default(number)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _raw_default(number: int) -> None:
    """rt_sigaction(2) itself: the C library keeps two signals to itself and refuses to touch them for others."""
    libc.syscall(_RT_SIGACTION, number, _NO_ACTION, None, 8)


def send_by_pidfd(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2). Raises OSError."""
    _signal.pidfd_send_signal(pidfd, number)
