"""`POST /build` as the classic builder has it, and what there is to say of the cache."""

import base64
import binascii
from typing import Any

import msgspec

from wherry.api.call import Call, required
from wherry.api.reply import Reply, Stream, json_reply
from wherry.builder.cache.space import Space
from wherry.builder.contexts.sent import Stat
from wherry.builder.executor import Settings
from wherry.builder.request import Request
from wherry.errors import InvalidArgument, NotSupported, WherryError
from wherry.linux.loopwatch import read_aside
from wherry.wire.build import BuildRequest

_STATS = msgspec.json.Decoder(list[Stat])
_STATS_LIMIT = 1 << 30
_PIECE = 1 << 20
_LIMITS = {
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota",
    "shmsize": "ShmSize",
}


_SHOWN = {"buildargs": "build args", "ulimits": "ulimit settings"}


async def build(call: Call) -> Stream:
    """POST /build: progress as JSON lines, an error in band."""
    if call.text("version") == "2":
        raise NotSupported("BuildKit's protocol is not supported; set DOCKER_BUILDKIT=0")
    stream = call.stream()
    request = _request(call)
    with call.while_client_stays():
        await call.engine.build.classic(
            request, call.chunks(), call.text("remote"), _auths(call), call.flag("q"), stream.send_json
        )
    await stream.finish()
    return stream


def _request(call: Call) -> Request:
    limits: dict[str, Any] = {name: call.number(key) for key, name in _LIMITS.items() if call.text(key)}
    for key, name in (("cpusetcpus", "CpusetCpus"), ("cpusetmems", "CpusetMems"), ("cgroupparent", "CgroupParent")):
        if call.text(key):
            limits[name] = call.text(key)
    if call.text("ulimits"):
        limits["Ulimits"] = _json(call, "ulimits", list)
    network = call.text("networkmode")
    may = frozenset(("network.host",) if network == "host" else ())
    return Request(
        path=call.text("dockerfile") or "Dockerfile",
        tags=[tag for tag in call.texts("t") if tag],
        target=call.text("target"),
        build_args={key: value for key, value in (_json(call, "buildargs", dict) or {}).items() if value is not None},
        labels=_json(call, "labels", dict) or {},
        no_cache=call.flag("nocache"),
        pull=call.flag("pull"),
        platform=call.text("platform"),
        squash=call.flag("squash"),
        settings=Settings(
            network=network or "default",
            hosts=_hosts(call.texts("extrahosts")),
            limits=limits,
            may=may,
            strict=True,
        ),
        style="classic",
        cache_from=[name for name in _json(call, "cachefrom", list) or [] if isinstance(name, str)],
    )


def _hosts(values: list[str]) -> list[str]:
    return [host for value in values for host in value.split(",") if host]


def _json(call: Call, key: str, kind: type) -> Any:
    text = call.text(key)
    if not text:
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        start = text.lstrip()[:1]
        known = start in '{["-0123456789tfn'
        why = "not JSON" if known else f"invalid character '{start}' looking for beginning of value"
        raise InvalidArgument(f"error reading {_SHOWN.get(key, key)}: {why}") from None
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"error reading {_SHOWN.get(key, key)}: not what it should be")
    return value


def _auths(call: Call) -> dict[str, Any]:
    text = call.request.headers.get("X-Registry-Config", "")
    if not text:
        return {}
    try:
        padded = text + "=" * (-len(text) % 4)
        value = msgspec.json.decode(base64.urlsafe_b64decode(padded))
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def client(call: Call) -> Stream:
    """POST /wherry/v1/build: see `building/client.py`."""
    wire = await call.json(BuildRequest)
    if wire is None:
        raise InvalidArgument("a build request is needed")
    stream = call.stream()
    stream.open()

    async def write(data: bytes, output: int) -> None:
        head = msgspec.json.encode({"chunk": len(data), "output": output}) + b"\n"
        await stream.write(head + data)

    with call.while_client_stays():
        try:
            await call.engine.build.client(wire, _auths(call), stream.send_json, write)
        except WherryError as error:
            code = error.facts.get("code")
            stream.send_json(
                {
                    "errorDetail": {"message": error.message, **({"code": code} if isinstance(code, int) else {})},
                    "error": error.message,
                    "vertex": error.facts.get("vertex"),
                    "excerpt": error.facts.get("excerpt"),
                }
            )
    await stream.finish()
    return stream


async def context(call: Call) -> Reply:
    """POST /wherry/v1/build/context?key=…: `[[path, kind, mode, size, mtime, stamp, link], …]` of a directory.

    Answers `{"id", "wanted": [places in the list]}`; those files are sent by PUT, one behind the other.
    """
    key = required(call.text("key"), "the name of a directory is needed")
    stats = await read_aside(read_stats, await call.body(_STATS_LIMIT))
    session = await call.engine.build.sent.begin(key, stats)
    return json_reply({"id": session.id, "wanted": session.wanted})


def read_stats(data: bytes) -> list[Stat]:
    """Read what a directory holds, some at a time: nothing else works while the decoder does.

    Raises:
        InvalidArgument: it is not that.
    """
    found: list[Stat] = []
    start = 0
    try:
        while (end := _boundary(data, start + _PIECE)) >= 0:
            found += _STATS.decode((b"[" if start else b"") + data[start:end] + b"]")
            start = end + 1
        rest = (b"[" if start else b"") + data[start:]
        if len(rest) > 2 * _PIECE:
            raise InvalidArgument("invalid build context: not written as it should be")
        return found + _STATS.decode(rest)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"invalid build context: {error}") from None


def _boundary(data: bytes, start: int) -> int:
    """Where one entry ends, at or after `start`: the place of its comma; -1 where none does."""
    while (at := data.find(b'"],["', start)) >= 0:
        before = at
        while before and data[before - 1] == 0x5C:
            before -= 1
        if (at - before) % 2 == 0:  # a quote with a backslash before it is inside a name
            return at + 2
        start = at + 1
    return -1


async def contents(call: Call) -> Reply:
    """PUT /wherry/v1/build/context?id=…: the files that were wanted."""
    await call.engine.build.sent.receive(call.text("id"), call.chunks())
    return Reply(204)


async def archive(call: Call) -> Reply:
    """POST /wherry/v1/build/archive: a context as an archive; answers `{"id"}`."""
    return json_reply({"id": await call.engine.build.archive(call.chunks())})


async def release(call: Call) -> Reply:
    """DELETE /wherry/v1/build/context?id=…: the client does not build."""
    await call.engine.build.sent.release(call.text("id"))
    return Reply(204)


async def prune(call: Call) -> Reply:
    """POST /build/prune."""
    # `keep-storage` is what API versions before 1.48 call the reserved space
    space = Space(
        call.number("reserved-space", 0) or call.number("keep-storage", 0) or 0,
        call.number("max-used-space", 0) or 0,
        call.number("min-free-space", 0) or 0,
    )
    filters = call.filters()
    try:
        return json_reply(await call.engine.build.prune(filters, call.flag("all"), space))
    except InvalidArgument as error:
        raise InvalidArgument(f"failed to prune build cache: {error.message}") from None
