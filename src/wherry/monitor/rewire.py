"""Interfaces of a running container attached and detached, by a helper of its monitor (`network connect`)."""

from wherry.errors import NotSupported
from wherry.linux.channel import close_all
from wherry.monitor.helper import Helper
from wherry.monitor.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.errors import WherryError
    from wherry.linux.loop import Loop
    from wherry.monitor.record import Record


def rewire(
    loop: "Loop",
    sandbox: object,
    record: "Record",
    message: "dict[str, Any]",
    fds: "dict[str, int]",
    reply: "Callable[[dict[str, Any], Exception | None], None]",
) -> None:
    """Carry out the request `rewire`; replies `{"endpoints"}`, all that there are then, or the error.

    Args:
        sandbox: the container's.
        record: its state; `endpoints` there follow.
        message: `attach`, `detach`, `routes` as `Sandbox.rewire` takes them.
        fds: `port:<n>`, sockets of further published ports; owned.
        reply: called later.

    Raises:
        NotSupported: a helper process has no network of its own.
    """
    if not isinstance(sandbox, Sandbox):
        raise NotSupported("a helper has no network of its own")
    attach, detach, routes = list(message["attach"]), list(message["detach"]), dict(message["routes"])
    ports = dict(fds)
    fds.clear()
    if not (attach or detach or routes):
        sandbox.rewired({"endpoints": sandbox.endpoints}, ports)
        reply({"endpoints": sandbox.endpoints}, None)
        return

    def done(values: "dict[str, Any]", _given: "dict[str, int]", error: "WherryError | None") -> None:
        if error is None:
            sandbox.rewired(values, ports)
            record.update(endpoints=sandbox.endpoints)
        close_all(list(ports.values()))
        reply({"endpoints": sandbox.endpoints}, error)

    Helper(loop, lambda: (sandbox.rewire(attach, detach, routes), {}), lambda: None, done, str(record.values["id"]))
