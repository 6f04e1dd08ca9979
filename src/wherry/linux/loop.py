"""An event loop for small processes: epoll(7), callbacks by descriptor, a few timers. One thread; nothing in it waits.

A callback gets the event bits. A late event for a descriptor that was closed and reused in the same round may reach the
new owner, so every callback must bear being called with nothing to do: all descriptors here are non-blocking.
"""

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IN = select.EPOLLIN
OUT = select.EPOLLOUT
HUP = select.EPOLLHUP
ERR = select.EPOLLERR

_IDLE_SECONDS = 0.5


class Loop:
    """Descriptors and timers, and the round that serves them.

    Args:
        on_error: called with an exception that a callback let through; the loop goes on.
        on_idle: called once when, after `busy` was set, nothing has happened for half a second.
    """

    __slots__ = ("_epoll", "_handlers", "_on_error", "_on_idle", "_stopped", "_timers", "busy")

    def __init__(self, on_error: "Callable[[BaseException], None]", on_idle: "Callable[[], None]") -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._on_error = on_error
        self._stopped = False
        self._on_idle = on_idle
        self.busy = False

    def watch(self, fd: int, events: int, callback: "Callable[[int], None]") -> None:
        """Call `callback(bits)` when one of `events`, HUP or ERR holds; replaces what was watched on `fd` before."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; must come before it is closed. Harmless when it is not watched."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: "Callable[[], None]") -> "tuple[float, Callable[[], None]]":
        """Call `callback()` once, after `seconds`; returns what `cancel` takes."""
        timer = (time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def cancel(self, timer: "tuple[float, Callable[[], None]]") -> None:
        """Take a timer back. Harmless when it has been called."""
        if timer in self._timers:
            self._timers.remove(timer)

    def stop(self) -> None:
        """End `run` after the current round."""
        self._stopped = True

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopped:
            self.once()

    def once(self, limit: "float | None" = None) -> None:
        """One round: wait for events (at most `limit` seconds), serve them and the timers that are due."""
        timeout = limit
        if self._timers:
            due = max(0.0, min(timer[0] for timer in self._timers) - time.monotonic())
            timeout = due if timeout is None else min(timeout, due)
        resting = self.busy and (timeout is None or timeout > _IDLE_SECONDS)
        events = self._epoll.poll(_IDLE_SECONDS if resting else timeout, 16)
        if resting and not events:
            self.busy = False
            self._guard(self._on_idle)
        for fd, bits in events:
            handler = self._handlers.get(fd)
            if handler is not None:
                try:
                    handler(bits)
                except Exception as error:  # noqa: BLE001 - one broken peer must not end the whole process
                    self._on_error(error)
        if self._timers:
            now = time.monotonic()
            ready = [timer[1] for timer in self._timers if timer[0] <= now]
            if ready:
                self._timers = [timer for timer in self._timers if timer[0] > now]
                for callback in ready:
                    self._guard(callback)

    def _guard(self, callback: "Callable[[], None]") -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - as above
            self._on_error(error)
