"""What a sandbox's driver needs of floor 4, as Protocols: monitors, and short workers.

`engine/` hands the real ones in.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol


class Monitor(Protocol):
    """A live monitor process, as `monitor.client.MonitorHandle` is one."""

    pid: int
    start_time: int

    async def request(self, op: str, *, fds: Mapping[str, int] | None = None, **args: Any) -> dict[str, Any]:
        """Ask the monitor; raises what it answers with."""

    def close(self) -> None:
        """Forget the monitor; it goes on."""


EventHandler = Callable[[dict[str, Any]], None]
LostHandler = Callable[[], None]


class SpawnMonitor(Protocol):
    """Fork a monitor and hand it a launch (see `monitor/__init__`). Descriptors stay the caller's."""

    def __call__(
        self, launch: dict[str, Any], fds: Mapping[str, int], on_event: EventHandler, on_lost: LostHandler
    ) -> Awaitable[Monitor]: ...


class AdoptMonitor(Protocol):
    """Connect to the monitor that state files in `run_dir` speak of. Raises `MonitorLost`."""

    def __call__(self, run_dir: str, on_event: EventHandler, on_lost: LostHandler) -> Awaitable[Monitor]: ...


class RunWorker(Protocol):
    """Run a short worker to its end; returns its result, raises its error."""

    def __call__(
        self,
        kind: str,
        args: dict[str, Any],
        fds: Mapping[str, int],
        progress: Callable[[dict[str, Any]], None] | None = None,
        /,
    ) -> Awaitable[dict[str, Any]]: ...
