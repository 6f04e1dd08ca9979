"""`/containers/…`: all but the streams (`streams.py`)."""

from contextlib import aclosing

from wherry.api.call import Call, required
from wherry.api.reply import Answer, Reply, Stream, json_reply
from wherry.errors import InvalidArgument
from wherry.wire.containers import CreateRequest, HostConfig, UpdateRequest

_PRIVATE_IPC_SINCE = (1, 40)
_CONDITIONS = ("not-running", "next-exit", "removed", "healthy")


def no_content() -> Reply:
    """204."""
    return Reply(204)


async def create(call: Call) -> Reply:
    """POST /containers/create."""
    if not call.has_body:
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    call.check_content_type()
    request = await call.json(CreateRequest)
    if request is None or request == CreateRequest():
        raise InvalidArgument("config cannot be empty in order to create a container")
    if call.version < _PRIVATE_IPC_SINCE:
        request.host_config = request.host_config or HostConfig()
        request.host_config.ipc_mode = request.host_config.ipc_mode or "shareable"
    name, platform = call.text("name") or None, call.text("platform") or None
    return json_reply(await call.engine.containers.create(request, name, platform), 201)


async def listing(call: Call) -> Reply:
    """GET /containers/json."""
    limit = call.number("limit", -1)
    assert limit is not None
    filters = call.filters()
    every = call.flag("all") or limit > 0
    return json_reply(await call.engine.containers.list(every, max(limit, 0), call.flag("size"), filters))


async def inspect(call: Call) -> Reply:
    """GET /containers/{id}/json."""
    return json_reply(await call.engine.containers.inspect(call.name, call.flag("size")))


async def start(call: Call) -> Reply:
    """POST /containers/{id}/start."""
    if call.has_body and (await call.body()).strip() not in (b"", b"{}", b"null"):
        raise InvalidArgument(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    await call.engine.containers.start(
        call.name, call.text("detachKeys"), call.text("checkpoint"), call.text("checkpoint-dir")
    )
    return no_content()


async def stop(call: Call) -> Reply:
    """POST /containers/{id}/stop."""
    await call.engine.containers.stop(call.name, _timeout(call), call.text("signal") or None)
    return no_content()


async def restart(call: Call) -> Reply:
    """POST /containers/{id}/restart."""
    await call.engine.containers.restart(call.name, _timeout(call), call.text("signal") or None)
    return no_content()


def _timeout(call: Call) -> int | None:
    return call.number("t") if call.text("t") else None


async def kill(call: Call) -> Reply:
    """POST /containers/{id}/kill."""
    await call.engine.containers.kill(call.name, call.text("signal") or "SIGKILL")
    return no_content()


async def pause(call: Call) -> Reply:
    """POST /containers/{id}/pause."""
    await call.engine.containers.pause(call.name)
    return no_content()


async def unpause(call: Call) -> Reply:
    """POST /containers/{id}/unpause."""
    await call.engine.containers.unpause(call.name)
    return no_content()


async def remove(call: Call) -> Reply:
    """DELETE /containers/{id}."""
    await call.engine.containers.remove(call.name, call.flag("force"), call.flag("v"), call.flag("link"))
    return no_content()


async def rename(call: Call) -> Reply:
    """POST /containers/{id}/rename."""
    name = required(call.text("name"), "Neither old nor new names may be empty")
    await call.engine.containers.rename(call.name, name)
    return no_content()


def dimensions(call: Call) -> tuple[int, int]:
    """Read `h` and `w` of a resize: character cells.

    Raises:
        InvalidArgument: missing, no number, or more than a terminal can have.
    """
    sizes = []
    for key in ("h", "w"):
        text = call.text(key)
        if not text:
            raise InvalidArgument('strconv.Atoi: parsing "": invalid syntax')
        value = call.number(key)
        if value is None or not 0 <= value < 1 << 16:
            raise InvalidArgument(f'strconv.ParseUint: parsing "{text}": value out of range')
        sizes.append(value)
    return sizes[0], sizes[1]


async def resize(call: Call) -> Reply:
    """POST /containers/{id}/resize."""
    height, width = dimensions(call)
    await call.engine.containers.resize(call.name, height, width)
    return Reply(200)


async def wait(call: Call) -> Stream:
    """POST /containers/{id}/wait.

    The head is sent as soon as the engine watches: the docker command starts the container when it has it.
    """
    condition = call.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    with call.while_client_stays():
        outcome = await call.engine.containers.wait(call.name, condition)
        stream = call.stream()
        stream.open()
        result = await outcome
    answer = {"StatusCode": result["StatusCode"]}
    if result.get("Error"):
        answer["Error"] = result["Error"]
    stream.send_json(answer)
    await stream.finish()
    return stream


async def top(call: Call) -> Reply:
    """GET /containers/{id}/top."""
    return json_reply(await call.engine.containers.top(call.name, call.text("ps_args") or "-ef"))


async def export(call: Call) -> Stream:
    """GET /containers/{id}/export: its file system as a tar stream; what fails later breaks the connection off."""
    stream = call.stream("application/octet-stream")
    # a client that goes away ends the worker
    with call.while_client_stays():
        await stream.pass_on(call.engine.containers.export(call.name))
    return stream


async def changes(call: Call) -> Reply:
    """GET /containers/{id}/changes."""
    return json_reply(await call.engine.containers.changes(call.name) or None)


async def update(call: Call) -> Reply:
    """POST /containers/{id}/update."""
    request = await call.json(UpdateRequest) or UpdateRequest()
    return json_reply({"Warnings": await call.engine.containers.update(call.name, request) or None})


async def stats(call: Call) -> Answer:
    """GET /containers/{id}/stats: one answer, or one each second until the client goes."""
    quick = call.flag("one-shot")
    if not call.flag("stream", True):
        return json_reply(await call.engine.containers.stats(call.name, quick))
    found = call.engine.containers.watch_stats(call.name, quick)
    stream = call.stream()
    with call.while_client_stays():
        stream.open()
        async with aclosing(found):
            async for sample in found:
                stream.send_json(sample)
                await call.connection.drain()
    await stream.finish()
    return stream


async def prune(call: Call) -> Reply:
    """POST /containers/prune."""
    return json_reply(await call.engine.containers.prune(call.filters()))
