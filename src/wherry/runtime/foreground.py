"""A process in the foreground: its terminal is relayed, signals are passed on, its exit code is ours."""

import errno
import os
import select

from wherry.errors import KernelError
from wherry.linux import signals, terminal
from wherry.linux.clone import reap
from wherry.linux.process import pidfd_send_signal
from wherry.linux.rawmode import make_raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.runtime.stdio import Launched

_NOT_PASSED_ON = frozenset({"CHLD", "CLD", "KILL", "STOP", "PIPE", "URG", "WINCH", "RTMIN", "RTMAX"})
_CHUNK = 1 << 16


class Foreground:
    """Signals that come before the process is there are kept and passed on then: make this before the launch."""

    __slots__ = ("_early", "_master", "_pidfd")

    def __init__(self) -> None:
        self._pidfd = -1
        self._master = -1
        self._early: list[int] = []
        for name, number in signals.NUMBERS.items():
            if name not in _NOT_PASSED_ON:
                signals.handle(number, self._pass_on)
        signals.handle(signals.SIGWINCH, self._resize)

    def _pass_on(self, number: int, _frame: object) -> None:
        if self._pidfd < 0:
            self._early.append(number)
        else:
            pidfd_send_signal(self._pidfd, number)

    def _resize(self, _number: int, _frame: object) -> None:
        if self._master >= 0:
            self._copy_size()

    def _copy_size(self) -> None:
        size = terminal.get_size(0)
        if size is not None and size != (0, 0):
            terminal.set_size(self._master, *size)

    def follow(self, launched: "Launched") -> int:
        """Stay until the process ends. Returns its exit code, 128 + n for signal n."""
        self._pidfd = launched.pidfd
        for number in self._early:
            pidfd_send_signal(self._pidfd, number)
        if launched.master is None:
            code = reap(launched.pidfd)
        else:
            self._master = launched.master
            code = self._relay(launched.master, launched.pidfd)
        if code is None:
            raise KernelError("the process was reaped by another", errno.ECHILD)
        return code if code >= 0 else 128 - code

    def _relay(self, master: int, pidfd: int) -> int | None:
        raw = make_raw(0) if os.isatty(0) else None
        try:
            self._copy_size()
            poll = select.poll()
            poll.register(0, select.POLLIN)
            poll.register(master, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            ended = False
            while True:
                ready = dict(poll.poll(0 if ended else None))
                if master in ready and not _copy(master, 1):
                    poll.unregister(master)
                    master_open = False
                else:
                    master_open = master in ready
                if 0 in ready and not _copy(0, master):
                    poll.unregister(0)
                if ended and not master_open:
                    return reap(pidfd)
                if pidfd in ready and not ended:
                    ended = True
                    poll.unregister(pidfd)
        finally:
            if raw is not None:
                terminal.restore(0, raw)


def _copy(source: int, target: int) -> bool:
    """Move what is there; False at the end."""
    try:
        data = os.read(source, _CHUNK)
    except OSError as error:
        if error.errno == errno.EIO:
            return False  # every slave of the terminal is closed
        raise
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)
