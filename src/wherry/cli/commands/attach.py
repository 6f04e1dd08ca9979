"""`attach`: our streams to those of a running container."""

from wherry.cli.attached import attach, check_terminal
from wherry.cli.commands.common import DETACH_KEYS
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.streams import DETACHED
from wherry.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.http import Client


def _running(client: "Client", name: str) -> "Any":
    container = client.call("GET", f"/containers/{quote(name)}/json")
    state = container["State"]
    for field, good, words in (
        ("Running", True, "You cannot attach to a stopped container, start it first"),
        ("Paused", False, "You cannot attach to a paused container, unpause it first"),
        ("Restarting", False, "You cannot attach to a restarting container, wait until it is running"),
    ):
        if bool(state.get(field)) != good:
            raise Failure(words)
    return container


def _attach(command: Invocation) -> int:
    client, name = command.client, command.args[0]
    if command["detach-keys"]:
        from wherry.cli.terminal import parse_detach_keys

        parse_detach_keys(command["detach-keys"])
    container = _running(client, name)
    id_, tty = container["Id"], container["Config"]["Tty"]
    check_terminal(not command["no-stdin"], tty)
    stdin = not command["no-stdin"] and container["Config"]["OpenStdin"]
    # asked before the stream is, so that an exit in between is not missed
    waiting = client.request("POST", f"/containers/{quote(id_)}/wait")
    if command["sig-proxy"] and not tty:
        from wherry.cli.signals import Forwarder

        Forwarder(client, id_).started()
    session = attach(client, id_, tty=tty, stdin=stdin, stdout=True, stderr=True, detach_keys=command["detach-keys"])
    try:
        _running(client, id_)
        session.enter_terminal()
        if tty:
            _nudge(client, id_)
            from wherry.cli.signals import follow_window

            session.resize = follow_window(client, f"/containers/{quote(id_)}")
        if session.run() == DETACHED:
            session.close()
            raise Failure("read escape sequence")
    finally:
        session.close()
    result = waiting.json() or {}
    if result.get("Error") and result["Error"].get("Message"):
        raise Failure(result["Error"]["Message"])
    return int(result.get("StatusCode", 0))


def _nudge(client: "Client", id_: str) -> None:
    """Another size first: a program draws itself anew only when the size changes."""
    from wherry.cli.signals import aside
    from wherry.cli.terminal import window_size

    rows, columns = window_size()
    if rows or columns:
        aside(client, f"/containers/{quote(id_)}/resize", {"h": rows + 1, "w": columns + 1})


ATTACH = Command(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    _attach,
    (
        DETACH_KEYS,
        Flag("no-stdin", "", "bool", "Do not attach STDIN"),
        Flag("sig-proxy", "", "bool", "Proxy all received signals to the process (default true)", True),
    ),
    arguments=(1, 1),
    aliases=("container attach", "attach"),
)
COMMANDS = {"attach": ATTACH, "container attach": ATTACH}
