"""Room for descriptors in this process: what begins something asks for it, so that there is always room to end things.

The limit is RLIMIT_NOFILE (getrlimit(2)). The last `reserve()` descriptors below it are for connections that are being
answered and for what ends a container. All calls belong to the event loop's thread.
"""

import asyncio
import errno
import os
import resource
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wherry.errors import TooManyOpenFiles

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
"""The error numbers of a call that found no room: in this process, and in the whole system."""

_RESERVE = 64
_NEED = 24
_LISTING = "/proc/self/fd"
_HINT = "raise LimitNOFILE of its service, or `ulimit -n` before it is started"

_promised = 0
_waiting: deque[asyncio.Future[None]] = deque()


def limit() -> int:
    """How many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def reserve() -> int:
    """How many of them are kept to answer and to end things: 64, or a quarter of a limit below 256."""
    return min(_RESERVE, limit() // 4)


def beyond(first: int) -> bool:
    """Whether this process has `first` descriptors or more (proc_pid_fd(5))."""
    return (_told() or _counted(first)) >= first


def _told() -> int:
    """How many descriptors this process has, by the kernel's own word; 0 from a kernel before 6.2."""
    return os.stat(_LISTING).st_size


def _counted(enough: int) -> int:
    """How many descriptors this process has, or fewer than `enough` where that is plain without counting them."""
    # Listing costs milliseconds for thousands. A table that is shorter cannot hold `enough` of them.
    try:
        with open("/proc/self/status", "rb") as status:
            length = next(int(line.split()[1]) for line in status if line.startswith(b"FDSize:"))
        # each of the two openings sees its own
        return length - 1 if length < enough else len(os.listdir(_LISTING)) - 1
    except OSError as error:
        if error.errno not in EXHAUSTED:
            raise
        return limit()


def check(doing: str = "", need: int = _NEED) -> None:
    """Refuse to begin something where it would need descriptors that are kept to end things.

    Args:
        doing: what is refused, as the message begins: `cannot start container web`. Empty: the caller's own words say.
        need: descriptors that it opens at most at once.

    Raises:
        TooManyOpenFiles: there is no room.
    """
    if beyond(limit() - reserve() - need - _promised):
        raise _full(doing)


@asynccontextmanager
async def room(doing: str, need: int) -> AsyncIterator[None]:
    """Promise descriptors to what is begun inside; at the limit, one such thing waits for another to get along.

    Args:
        doing, need: as of `check`.

    Raises:
        TooManyOpenFiles: there is no room, and nothing is under way that could leave some.
    """
    global _promised
    while beyond(limit() - reserve() - need - _promised):
        if not _promised:
            raise _full(doing)
        waiter = asyncio.get_running_loop().create_future()
        _waiting.append(waiter)
        await waiter
    _promised += need
    try:
        yield
    finally:
        _promised -= need
        while _waiting:
            waiter = _waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)


def check_taking(doing: str, need: int) -> None:
    """Refuse to take over what an earlier process had, where even the reserve would not do.

    Args:
        doing, need: as of `check`.

    Raises:
        TooManyOpenFiles: there is no room.
    """
    if beyond(limit() - reserve() // 2 - need):
        raise TooManyOpenFiles(f"{doing}: too many open files: wherryd may have {limit()} descriptors; {_HINT}")


def exhausted(error: OSError) -> TooManyOpenFiles:
    """Say of a call that found no room which limit it met.

    Args:
        error: with one of the numbers of `EXHAUSTED`.
    """
    if error.errno == errno.ENFILE:
        return TooManyOpenFiles("too many open files in the whole system: raise the sysctl fs.file-max")
    return TooManyOpenFiles(f"too many open files: wherryd may have {limit()} descriptors; {_HINT}")


def _full(doing: str) -> TooManyOpenFiles:
    return TooManyOpenFiles(
        f"{doing}{': ' if doing else ''}too many open files: wherryd may have {limit()} descriptors and keeps "
        f"{reserve()} of them to stop and remove containers; {_HINT}"
    )
