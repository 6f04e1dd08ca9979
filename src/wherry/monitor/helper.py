"""Work that would dirty a monitor's memory, or hold it up, done by a short-lived fork of it.

Planning and starting a process touches a few megabytes of what the monitor shares with its siblings, and waits for the
kernel. So a helper does it and ends. The process it started becomes the monitor's own child (PR_SET_CHILD_SUBREAPER is
on while a helper runs), to be reaped by the monitor as if it had started it.

A helper may be killed. What it has left is then a child of the monitor that nobody knows. The monitor ends that, and
sees by its name whether it had executed its program.
"""

import gc
import os
import time

from wherry.errors import KernelError, NotBegun, Unavailable, WherryError, from_wire, to_wire
from wherry.linux.channel import Channel, close_all, pair
from wherry.linux.libc import libc
from wherry.linux.loop import IN
from wherry.linux.process import children, comm, has_executed, pidfd_send_signal, stat_fields
from wherry.linux.signals import SIGKILL
from wherry.monitor.child import fork, set_title
from wherry.monitor.children import watched
from wherry.runtime.joiner import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop

    Action = Callable[[], tuple[dict[str, Any], dict[str, int]]]
    Done = Callable[[dict[str, Any], dict[str, int], WherryError | None], None]

_PR_SET_CHILD_SUBREAPER = 36
_TITLE = NAME
_TICKS = os.sysconf("SC_CLK_TCK")
_SESSION, _START = 3, 19  # of `stat_fields`

_running: "dict[int, Helper]" = {}


class Helper:
    """One piece of work under way.

    Args:
        loop: the monitor's.
        action: what the helper does: returns values and descriptors for the monitor. A process that it makes and leaves
            leads a session before it executes.
        undo: called in the helper when the monitor is not there any more to take them.
        done: called in the monitor with values and descriptors (owned by it), or with the error. `Unavailable`: the
            helper was killed. `NotBegun`: so it was, and no program of it had run.
        detail: what `ps` shows of it.
        may_try_again: tell those two apart.
    """

    __slots__ = ("_channel", "_done", "_executed", "_loop", "_may_try_again", "_pid", "_since")

    def __init__(
        self,
        loop: "Loop",
        action: "Action",
        undo: "Callable[[], None]",
        done: "Done",
        detail: str = "",
        *,
        may_try_again: bool = False,
    ) -> None:
        self._executed = False
        self._may_try_again = may_try_again
        self._since = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)
        self._loop = loop
        self._done = done
        self._channel, theirs = pair()
        if not _running:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._pid = fork(lambda: _work(theirs, action, undo, detail))
        _running[self._pid] = self
        theirs.close()
        self._channel.sock.setblocking(False)
        loop.watch(self._channel.fileno(), IN, self._ready)

    def kill(self) -> None:
        """Stop the helper; `done` is called with an error."""
        os.kill(self._pid, SIGKILL)  # not reaped yet: the number is its own

    def _ready(self, _bits: int) -> None:
        try:
            received = self._channel.receive()
        except BlockingIOError:
            return
        except (OSError, WherryError):
            received = None
        self._loop.unwatch(self._channel.fileno())
        self._channel.close()
        # what it started is ours only when it is gone; it has nothing more to do
        os.waitpid(self._pid, 0)
        del _running[self._pid]
        if received is None:
            self._end_strays()
            return
        self._settle()
        values, fds = received
        if "error" in values:
            close_all(list(fds.values()))
            self._done({}, {}, from_wire(values["error"]))
        else:
            self._done(values, fds, None)

    def _settle(self) -> None:
        if not _running:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def _end_strays(self) -> None:
        """The helper was killed: end what it left, one after the other. A pid namespace stays as long as a process of
        it is not reaped."""
        for pid in children():
            if pid in watched or pid in _running or not self._is_stray(pid):
                continue
            pidfd = os.pidfd_open(pid)
            pidfd_send_signal(pidfd, SIGKILL)
            self._loop.watch(pidfd, IN, lambda _bits, pid=pid, pidfd=pidfd: self._ended(pid, pidfd))  # type: ignore[misc]
            return
        self._settle()
        self._killed()

    def _is_stray(self, pid: int) -> bool:
        try:
            if comm(pid) == _TITLE and not has_executed(pid):
                return True
            # the monitor may have got others: it is everybody's subreaper while a helper runs
            fields = stat_fields(pid)
            return int(fields[_SESSION]) == pid and int(fields[_START]) >= self._since
        except KernelError:
            return False  # gone

    def _ended(self, pid: int, pidfd: int) -> None:
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        try:
            executed = comm(pid) != _TITLE
            os.waitpid(pid, 0)
        except (KernelError, ChildProcessError):
            executed = False  # another helper was killed too, and its end has reaped this one
        if executed:
            # it may be one of another helper that was killed at the same time
            for helper in (self, *_running.values()):
                helper._executed = True
        self._end_strays()  # it may have left one itself

    def _killed(self) -> None:
        words = f"the process that was to start it ({_TITLE}, {self._pid}) was killed"
        if not self._may_try_again:
            error: WherryError = Unavailable(words)
        elif self._executed:
            error = Unavailable(f"{words} while the program began, which was ended")
        else:
            error = NotBegun(f"{words} before the program ran")
        self._done({}, {}, error)


def _work(channel: Channel, action: "Action", undo: "Callable[[], None]", detail: str) -> None:
    gc.disable()  # it would look at, and so copy, every page
    set_title(_TITLE, detail)
    try:
        values, fds = action()
    except BaseException as error:  # noqa: BLE001 - told to the monitor
        channel.send({"error": to_wire(error)})
        return
    try:
        channel.send(values, fds)
    except OSError:
        undo()
