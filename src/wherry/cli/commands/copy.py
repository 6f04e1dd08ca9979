"""`image copy`: an image to another engine, without a registry; what breaks off goes on with the next copy."""

import _socket
import os
import select

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line
from wherry.cli.progress import Display, show_progress
from wherry.client.address import parse
from wherry.client.connection import Connection, Response
from wherry.client.errors import ServerError
from wherry.client.http import Client, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ATTEMPTS = 3
_TOLD = 1 << 20


def _copy(command: Invocation) -> None:
    name, destination = command.args
    if "://" not in destination:
        raise Failure(f'invalid destination {destination!r}: expected "ssh://HOST" or "unix://SOCKET"')
    here, there = command.client, Client(parse(destination))
    offer = here.call("GET", "/wherry/v1/copy/offer", {"name": name})
    display = None if command["quiet"] else Display(1)
    for attempt in range(_ATTEMPTS):
        try:
            _bring(here, there, offer, display, anew=attempt > 0)
            break
        except _AskAgain as error:
            if attempt == _ATTEMPTS - 1:
                raise Failure(str(error)) from None
    found: list[str] = []
    response = there.request("POST", "/wherry/v1/copy/assemble", body=offer)
    show_progress(response, quiet=command["quiet"], aux=lambda aux: found.append(str(aux.get("ID", ""))))
    if not found:
        raise Failure(f"{destination} did not say that it has the image")
    line(found[0] if command["quiet"] else f"Copied {name} to {destination}: {found[0]}")


class _AskAgain(Exception):
    """The other engine has another part of a blob than it said: somebody else writes it too, or it was damaged."""


def _bring(here: Client, there: Client, offer: "Any", display: Display | None, *, anew: bool) -> None:
    sizes = {blob["digest"]: blob["size"] for blob in offer["blobs"]}
    try:
        missing = there.call("POST", "/wherry/v1/copy/missing", body=offer)
    except ServerError as error:
        if error.status == 404:
            raise Failure("the engine there is not a Wherry that takes copies") from None
        raise
    absent = {item["digest"] for item in missing}
    if display is not None and not anew:
        for digest in sizes:
            if digest not in absent:
                display.show({"status": "Already exists", "progressDetail": {}, "id": _short(digest)})
    for item in missing:
        digest, offset = item["digest"], item["offset"]
        size = sizes[digest]
        offset = offset if offset <= size else 0
        source = here.request("GET", "/wherry/v1/copy/blob", {"digest": digest, "offset": offset})
        where = target("/wherry/v1/copy/blob", {"digest": digest, "size": size, "offset": offset})
        answer = _carry(source, there.connect(), where, offset, size, _short(digest), display)
        if answer.status == 409 or (answer.status >= 400 and offset):
            # what was there of an earlier copy may be wrong: it is thrown away then
            raise _AskAgain(_words(answer))
        answer.check()
        answer.connection.close()
        if display is not None:
            display.show({"status": "Copied", "progressDetail": {}, "id": _short(digest)})


def _words(answer: Response) -> str:
    try:
        answer.check()
    except ServerError as error:
        return str(error)
    return ""


def _carry(
    source: Response, connection: Connection, where: str, done: int, size: int, short: str, display: Display | None
) -> Response:
    """Send the body of `source` as a PUT, until all is sent or the other engine answers early.

    Raises:
        ProtocolError: the connection broke off.
    """
    connection.send("PUT", where, {"Content-Length": str(size - done), "Content-Type": "application/octet-stream"})
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN | select.POLLOUT)
    told = done
    while piece := source.read_some():
        view = memoryview(piece)
        while view:
            if any(events & ~select.POLLOUT for _, events in poll.poll()):
                return connection.head()
            try:
                view = view[connection.sock.send(view, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise connection.broken(f"{connection.gone}: {os.strerror(error.errno or 0)}") from None
        done += len(piece)
        if display is not None and (done - told >= _TOLD or done == size):
            told = done
            display.show({"status": "Copying", "progressDetail": {"current": done, "total": size}, "id": short})
    return connection.head()


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


COMMANDS = {
    "image copy": Command(
        "[OPTIONS] IMAGE ssh://[USER@]HOST[:PORT][/SOCKET]|unix://SOCKET",
        "Copy an image to another engine, without a registry",
        _copy,
        (Flag("quiet", "q", "bool", "Suppress the progress output, print the image ID only"),),
        arguments=(2, 2),
    )
}
