"""Work that would dirty a monitor's memory, or hold it up, done by a short-lived fork of it.

Planning and starting a process touches a few megabytes of what the monitor shares with its siblings, and waits for the
kernel. So a helper does it and ends. The process it started becomes the monitor's own child (PR_SET_CHILD_SUBREAPER is
on while a helper runs), to be reaped by the monitor as if it had started it.
"""

import gc
import os

from wherry.errors import Unavailable, WherryError, from_wire, to_wire
from wherry.linux.channel import Channel, close_all, pair
from wherry.linux.libc import libc
from wherry.linux.loop import IN
from wherry.linux.signals import SIGKILL
from wherry.monitor.child import fork, set_title

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop

    Action = Callable[[], tuple[dict[str, Any], dict[str, int]]]
    Done = Callable[[dict[str, Any], dict[str, int], WherryError | None], None]

_PR_SET_CHILD_SUBREAPER = 36

_running = 0


class Helper:
    """One piece of work under way.

    Args:
        loop: the monitor's.
        action: what the helper does: returns values and descriptors for the monitor.
        undo: called in the helper when the monitor is not there any more to take them.
        done: called in the monitor with values and descriptors (owned by it), or with the error.
        detail: what `ps` shows of it.
    """

    __slots__ = ("_channel", "_done", "_loop", "_pid")

    def __init__(
        self, loop: "Loop", action: "Action", undo: "Callable[[], None]", done: "Done", detail: str = ""
    ) -> None:
        global _running
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
        self._loop.unwatch(self._channel.fileno())
        self._channel.close()
        # what it started is ours only when it is gone; it has nothing more to do
        os.waitpid(self._pid, 0)
        _running -= 1
        if not _running:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if received is None:
            self._done({}, {}, Unavailable("the process that starts processes died"))
            return
        values, fds = received
        if "error" in values:
            close_all(list(fds.values()))
            self._done({}, {}, from_wire(values["error"]))
        else:
            self._done(values, fds, None)


def _work(channel: Channel, action: "Action", undo: "Callable[[], None]", detail: str) -> None:
    gc.disable()  # it would look at, and so copy, every page
    set_title("wherry-launch", detail)
    try:
        values, fds = action()
    except BaseException as error:  # noqa: BLE001 - told to the monitor
        channel.send({"error": to_wire(error)})
        return
    try:
        channel.send(values, fds)
    except OSError:
        undo()
