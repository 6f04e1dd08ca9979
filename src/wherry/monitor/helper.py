"""Work that would dirty a monitor's memory, or hold it up, done by a short-lived fork of it.

Planning and starting a process touches a few megabytes of what the monitor shares with its siblings, and waits for the
kernel. So a helper does it and ends. The process it started becomes the monitor's own child (PR_SET_CHILD_SUBREAPER is
on while a helper runs), to be reaped by the monitor as if it had started it.

A helper may be killed. So that the monitor knows what it had started by then, it reports the process while that still
waits to be let go; the monitor ends it, and sees by its name whether it had executed its program.
"""

import gc
import os

from wherry.errors import NotBegun, Unavailable, WherryError, from_wire, to_wire
from wherry.linux.channel import Channel, close_all, pair
from wherry.linux.libc import libc
from wherry.linux.loop import IN
from wherry.linux.process import pidfd_send_signal, stat_fields
from wherry.linux.signals import SIGKILL
from wherry.monitor.child import fork, set_title

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop

    Born = Callable[[int], None]
    Action = Callable[[Born], tuple[dict[str, Any], dict[str, int]]]
    Done = Callable[[dict[str, Any], dict[str, int], WherryError | None], None]

_PR_SET_CHILD_SUBREAPER = 36
_TITLE = "wherry-launch"

_running = 0


class Helper:
    """One piece of work under way.

    Args:
        loop: the monitor's.
        action: what the helper does: returns values and descriptors for the monitor. It is given a function to report
            the pid of a process that it has made, before that process is let go.
        undo: called in the helper when the monitor is not there any more to take them.
        done: called in the monitor with values and descriptors (owned by it), or with the error. `NotBegun`: the helper
            was killed, and no program that it reported has run. `Unavailable`: it was killed later, or reports none.
        detail: what `ps` shows of it.
        reports: it reports what it makes.
    """

    __slots__ = ("_born", "_channel", "_done", "_loop", "_pid", "_reports")

    def __init__(
        self,
        loop: "Loop",
        action: "Action",
        undo: "Callable[[], None]",
        done: "Done",
        detail: str = "",
        *,
        reports: bool = False,
    ) -> None:
        global _running
        self._born = 0
        self._reports = reports
        self._loop = loop
        self._done = done
        self._channel, theirs = pair()
        if not _running:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _running += 1
        self._pid = fork(lambda: _work(theirs, action, undo, detail))
        theirs.close()
        self._channel.sock.setblocking(False)
        loop.watch(self._channel.fileno(), IN, self._ready)

    def kill(self) -> None:
        """Stop the helper; `done` is called with an error."""
        os.kill(self._pid, SIGKILL)  # not reaped yet: the number is its own

    def _ready(self, _bits: int) -> None:
        global _running
        try:
            received = self._channel.receive()
        except BlockingIOError:
            return
        except (OSError, WherryError):
            received = None
        if received is not None and "born" in received[0]:
            self._born = int(received[0]["born"])
            return
        self._loop.unwatch(self._channel.fileno())
        self._channel.close()
        # what it started is ours only when it is gone; it has nothing more to do
        os.waitpid(self._pid, 0)
        _running -= 1
        if not _running:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if received is None:
            self._killed()
            return
        values, fds = received
        if "error" in values:
            close_all(list(fds.values()))
            self._done({}, {}, from_wire(values["error"]))
        else:
            self._done(values, fds, None)

    def _killed(self) -> None:
        words = f"the process that was to start it ({_TITLE}, {self._pid}) was killed"
        if not self._reports:
            self._done({}, {}, Unavailable(words))
            return
        not_begun = NotBegun(f"{words} before the program ran")
        # one that the helper itself had reaped, because it failed, is nobody's any more
        if not self._born or not _is_child(self._born):
            self._done({}, {}, not_begun)
            return
        pid, pidfd = self._born, os.pidfd_open(self._born)
        pidfd_send_signal(pidfd, SIGKILL)

        def ended(_bits: int) -> None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            executed = _name(pid) != _TITLE
            os.waitpid(pid, 0)
            self._done(
                {}, {}, Unavailable(f"{words} while the program began, which was ended") if executed else not_begun
            )

        self._loop.watch(pidfd, IN, ended)


def _is_child(pid: int) -> bool:
    try:
        return int(stat_fields(pid)[1]) == os.getpid()
    except WherryError:
        return False


def _name(pid: int) -> str:
    """The name of a process, which a zombie keeps."""
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")


def _work(channel: Channel, action: "Action", undo: "Callable[[], None]", detail: str) -> None:
    gc.disable()  # it would look at, and so copy, every page
    set_title(_TITLE, detail)
    try:
        values, fds = action(lambda pid: channel.send({"born": pid}))
    except BaseException as error:  # noqa: BLE001 - told to the monitor
        channel.send({"error": to_wire(error)})
        return
    try:
        channel.send(values, fds)
    except OSError:
        undo()
