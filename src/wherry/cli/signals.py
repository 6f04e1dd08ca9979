"""Forwarding: the signals that we get go to the container, the size of our terminal to its own.

Each call uses a connection of its own, because a handler may run in the middle of another exchange.
"""

import os

from wherry.cli.output import write_all
from wherry.cli.terminal import window_size
from wherry.client.http import Client, quote
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal  # the half of `signal` that does not import `enum`

# all that can be caught and mean something to another process; not those of job control's own bookkeeping
_FORWARDED = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "TSTP", "VTALRM", "PROF", "IO", "PWR")
_ENOUGH = 3


class Forwarder:
    """Sends the signals of this process to a container, from `__init__` on.

    Those that come before it runs are kept and sent by `started`; at the third of them this process ends. When it runs,
    the third SIGINT or SIGTERM ends this process as the docker command's does: the container goes on.
    """

    def __init__(self, client: Client, container: str) -> None:
        self._client = client
        self._path = f"/containers/{quote(container)}/kill"
        self._running = False
        self._early: list[str] = []
        self._asked = 0
        self._names = {int(getattr(_signal, f"SIG{name}")): name for name in _FORWARDED}
        for number in self._names:
            _signal.signal(number, self._forward)

    def started(self) -> None:
        """The container runs: send what came early."""
        self._running = True
        while self._early:
            self._send(self._early.pop(0))

    def stop(self) -> None:
        """There is nothing to forward to: signals end this process again."""
        for number in self._names:
            _signal.signal(number, _signal.SIG_DFL)

    def _forward(self, number: int, _frame: object) -> None:
        self._asked += number in (_signal.SIGINT, _signal.SIGTERM)
        if self._running:
            self._send(self._names[number])
            if self._asked >= _ENOUGH:
                write_all(2, b"\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n")
                os._exit(1)
            return
        self._early.append(self._names[number])
        if len(self._early) > 2:
            os._exit(128 + number)

    def _send(self, name: str) -> None:
        aside(self._client, self._path, {"signal": name})


def aside(client: Client, path: str, query: "dict[str, object]") -> bool:
    """POST on a connection of its own; whether the engine agreed."""
    try:
        Client(client.address).request("POST", path, query).read()
    except WherryError:
        return False
    return True


def follow_window(client: Client, path: str) -> "Callable[[], bool]":
    """Resize what `path` names (`/containers/<id>` or `/exec/<id>`) now and whenever our window changes.

    Returns:
        The function that does it, which says whether it could.
    """

    def resize() -> bool:
        rows, columns = window_size()
        if not rows and not columns:
            return True
        return aside(client, f"{path}/resize", {"h": rows, "w": columns})

    def changed(_number: int, _frame: object) -> None:
        resize()

    _signal.signal(_signal.SIGWINCH, changed)
    return resize
