"""What every forked process of this package does first: let go of what it was not given.

A child keeps the descriptors it was given and nothing else, has its own session and no terminal, and a name that `ps`
shows. Its signals are the spawner's, which has set them once (`settle_signals`).
"""

import _signal  # type: ignore[import-not-found]  # `signal` itself makes enums: half a megabyte in every monitor
import ctypes
import os

from wherry.linux import signals
from wherry.linux.process import set_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_ARG_START, _ARG_END = 47, 48  # fields 48 and 49 of /proc/<pid>/stat, counted from 0

_argument_area: "tuple[int, int]" = (0, 0)

private: "set[int]" = set()
"""Descriptors that no fork of this process keeps: who is at their other end waits for the end of this process."""


def remember_arguments() -> None:
    """Find the memory that `ps` reads the command line from; once, before the first fork."""
    global _argument_area
    with open("/proc/self/stat", "rb") as file:
        fields = file.read()
    # the command name may hold blanks and parentheses: count from its end, where field 3 begins
    values = fields[fields.rindex(b")") + 2 :].split()
    start, end = int(values[_ARG_START - 2]), int(values[_ARG_END - 2])
    if 0 < start < end:
        _argument_area = (start, end - start)


def set_title(name: str, detail: str = "") -> None:
    """Name this process: `name` (15 characters count) for `ps -o comm`, with `detail` for its command line."""
    set_name(name)
    address, size = _argument_area
    if size > 1:
        title = f"{name} {detail}".strip().encode()[: size - 1]
        ctypes.memset(address, 0, size)
        ctypes.memmove(address, title, len(title))


def close_all_but(keep: "Iterable[int]") -> None:
    """Close every descriptor but those (close_range(2), one call per gap)."""
    low = 0
    for fd in sorted(set(keep)):
        if fd > low:
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 0x7FFFFFFF)


def become_child(keep: "Sequence[int]", title: str, detail: str = "") -> None:
    """Turn a fresh fork into a process of its own; see the module. Standard streams are /dev/null."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        if fd not in keep and fd != null:
            os.dup2(null, fd)
    close_all_but([*keep, 0, 1, 2])
    os.umask(0o022)
    os.chdir("/")
    set_title(title, detail)


def settle_signals() -> None:
    """Default dispositions and an empty mask, whatever was inherited; ignored are only SIGPIPE, because writes report
    it, and what is meant for the processes of a terminal or session: a container's parent does not die of that."""
    signals.reset()
    for number in (signals.SIGPIPE, signals.SIGHUP, signals.SIGINT, signals.SIGTERM):
        _signal.signal(number, _signal.SIG_IGN)


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot (field 22 of /proc/<pid>/stat): with the pid, its identity.

    Raises:
        OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read()
    return int(fields[fields.rindex(b")") + 2 :].split()[19])


def fork(body: "Callable[[], None]") -> int:
    """Run `body` in a fork of this process, which has no other thread; the child never returns from here.

    The child's exit status is 0 unless `body` raised. The caller reaps it.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            while private:
                os.close(private.pop())
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def fork_task(action: "Callable[[], None]", keep: "Sequence[int]", title: str) -> int:
    """Run `action` at low priority in a fork that holds no other descriptors than `keep`; see `fork`."""

    def body() -> None:
        become_child(keep, title)
        os.nice(10)
        action()

    return fork(body)
