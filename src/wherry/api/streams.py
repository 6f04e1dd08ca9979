"""Attach, logs and exec: the requests whose connection is given away."""

from wherry.api.call import Call
from wherry.api.containers import dimensions
from wherry.api.facade import Ticket
from wherry.api.hijack import HandedOver, Hijack
from wherry.api.reply import Answer, Reply, head, json_reply
from wherry.errors import InvalidArgument
from wherry.wire.containers import AttachOptions, ExecConfig, ExecStart, LogOptions

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_MULTIPLEXED_SINCE = (1, 42)


def _content_type(call: Call, ticket: Ticket) -> str:
    return MULTIPLEXED if not ticket.tty and call.version >= _MULTIPLEXED_SINCE else RAW


def _hijack(call: Call) -> Hijack:
    hijack = call.connection.pending(call.request)
    if hijack is None:
        # pipelined behind another request, or too large: the parser has already read what is not HTTP
        raise InvalidArgument("a request that takes over its connection must be sent on its own")
    return hijack


async def _upgrade(call: Call, hijack: Hijack, ticket: Ticket, *, wait: bool = True) -> HandedOver:
    # dockerd sends no further headers here
    if hijack.upgrade:
        kind = _content_type(call, ticket)
        text = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    else:
        text = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n"
    return await call.connection.hand_over(text.encode(), ticket, hijack.tail, wait=wait)


def attach_options(call: Call, *, multiplexed: bool = True) -> AttachOptions:
    """What the query of an attach asks for; `multiplexed`: without a terminal, its streams have headers."""
    return AttachOptions(
        stream=call.flag("stream"),
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        logs=call.flag("logs"),
        detach_keys=call.text("detachKeys"),
        multiplexed=multiplexed,
    )


async def attach(call: Call) -> HandedOver:
    """POST /containers/{id}/attach."""
    hijack = _hijack(call)
    ticket = await call.engine.containers.attach(call.name, attach_options(call))
    # a client that has read the head may start the container at once: the ticket must be known by then
    return await _upgrade(call, hijack, ticket, wait=False)


async def logs(call: Call) -> HandedOver:
    """GET /containers/{id}/logs: the log reader writes the body, and the connection ends with it.

    In chunks, except for HTTP/1.0, as dockerd sends it: a log that is cut, whatever ended its reader, lacks the last
    chunk, and no client takes it for the whole.
    """
    options = LogOptions(
        follow=call.flag("follow"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        since=call.text("since"),
        until=call.text("until"),
        timestamps=call.flag("timestamps"),
        tail=call.text("tail") or "all",
        details=call.flag("details"),
        chunked=call.request.version >= (1, 1),
    )
    if not options.stdout and not options.stderr:
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    ticket = await call.engine.containers.logs(call.name, options)
    length = "Transfer-Encoding: chunked\r\n" if options.chunked else ""
    text = f"Content-Type: {_content_type(call, ticket)}\r\n{length}"
    return await call.connection.hand_over(head(200, text, keep_alive=False), ticket)


async def build_connect(call: Call) -> HandedOver:
    """POST /wherry/v1/build/connect?id=…: the connection that a running build has asked its client for."""
    hijack = _hijack(call)
    return await _upgrade(call, hijack, call.engine.build.connected(call.text("id")))


async def build_resize(call: Call) -> Reply:
    """POST /build/{step}/resize: the terminal of a shell in a failed step."""
    await call.engine.build.resize(call.name, *dimensions(call))
    return Reply(200)


async def exec_create(call: Call) -> Reply:
    """POST /containers/{id}/exec."""
    config = await call.json(ExecConfig) or ExecConfig()
    if not config.cmd:
        raise InvalidArgument("No exec command specified")
    return json_reply({"Id": await call.engine.containers.exec_create(call.name, config)}, 201)


async def exec_start(call: Call) -> Answer:
    """POST /exec/{id}/start."""
    hijack = _hijack(call)
    options = await call.json(ExecStart) or ExecStart()
    if options.detach:
        await call.engine.containers.exec_start_detached(call.name, options)
        return Reply(200)
    ticket = await call.engine.containers.exec_start(call.name, options)
    return await _upgrade(call, hijack, ticket)


async def exec_inspect(call: Call) -> Reply:
    """GET /exec/{id}/json."""
    return json_reply(await call.engine.containers.exec_inspect(call.name))


async def exec_resize(call: Call) -> Reply:
    """POST /exec/{id}/resize."""
    height, width = dimensions(call)
    await call.engine.containers.exec_resize(call.name, height, width)
    return Reply(200)
