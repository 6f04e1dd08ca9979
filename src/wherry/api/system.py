"""`/_ping`, `/version`, `/info`, `/system/df`, `/events`."""

import platform
import time
from contextlib import aclosing
from typing import Any

from wherry import __version__
from wherry.api.call import Call
from wherry.api.reply import Reply, Stream, json_reply
from wherry.api.version import API_VERSION, MIN_API_VERSION
from wherry.errors import InvalidArgument

# Builder-Version 1: the classic builder; a client that reads 2 opens a BuildKit session
_PING = (
    "Builder-Version: 1\r\nCache-Control: no-cache, no-store, must-revalidate\r\n"
    "Pragma: no-cache\r\nSwarm: inactive\r\n"
)
_TYPES_SINCE = (1, 42)
_SECOND = 1_000_000_000
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


async def ping(call: Call) -> Reply:
    """GET and HEAD /_ping."""
    await call.engine.system.ping()
    body = b"" if call.request.method == "HEAD" else b"OK"
    return Reply(200, body, "text/plain; charset=utf-8", _PING)


async def version(call: Call) -> Reply:
    """GET /version: what the engine says of itself, and what this API is."""
    uname = platform.uname()
    api: dict[str, Any] = {
        "Platform": {"Name": ""},
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(uname.machine, uname.machine),
        "KernelVersion": uname.release,
    }
    return json_reply({**api, **await call.engine.system.version()})


async def info(call: Call) -> Reply:
    """GET /info."""
    return json_reply(await call.engine.system.info())


async def df(call: Call) -> Reply:
    """GET /system/df: of the object types that are asked for, all without; older clients always get all."""
    types = call.texts("type") if call.version >= _TYPES_SINCE else []
    return json_reply(await call.engine.system.df(types, call.version))


def _moment(call: Call, key: str) -> int | None:
    text = call.text(key)
    if not text:
        return None
    whole, _, fraction = text.partition(".")
    if not whole.isascii() or not whole.isdigit() or (fraction and not (fraction.isascii() and fraction.isdigit())):
        raise InvalidArgument(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(whole[:12]) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


async def events(call: Call) -> Stream:
    """GET /events: JSON lines until `until`, or until the client goes."""
    since, until, filters = _moment(call, "since"), _moment(call, "until"), call.filters()
    if until is not None:
        now = time.time_ns()
        if until == now - now % _SECOND:
            # clients say "now" in whole seconds: what has just happened is not left out
            until = now
        if since is not None and since > until:
            shown = f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
            raise InvalidArgument(shown)
    stream = call.stream()
    with call.while_client_stays():
        found = call.engine.events.subscribe(since, until, filters)
        stream.open()
        async with aclosing(found):
            async for event in found:
                stream.send_json(event)
                await call.connection.drain()
    await stream.finish()
    return stream
