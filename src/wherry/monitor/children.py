"""Children of a monitor: watched by pidfd, reaped, and told about."""

import os

from wherry.linux.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.linux.loop import Loop

watched: "set[int]" = set()
"""Children of this monitor that are known, except helpers."""


def watch_child(loop: "Loop", pid: int, pidfd: int, on_exit: "Callable[[int, int | None], None]") -> None:
    """Reap `pid` when it ends, then call `on_exit(code, signal)`.

    Args:
        loop: the monitor's.
        pid: our own child.
        pidfd: its descriptor; owned, closed before the call.
        on_exit: gets the exit code (128 + n for signal n) and the signal, if one ended it.
    """

    def ready(_bits: int) -> None:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done == 0:
            return
        watched.discard(pid)
        loop.unwatch(pidfd)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            on_exit(128 - code, -code)
        else:
            on_exit(code, None)

    watched.add(pid)
    loop.watch(pidfd, IN, ready)
