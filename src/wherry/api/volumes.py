"""Volumes: `/volumes`."""

from wherry.api import absent
from wherry.api.call import Call, required
from wherry.api.reply import Reply, Stream, json_reply
from wherry.errors import InvalidArgument, Unavailable
from wherry.wire.volumes import VolumeCreate


async def listing(call: Call) -> Reply:
    """GET /volumes."""
    try:
        filters = call.filters()
    except InvalidArgument as error:
        raise InvalidArgument(f"error reading volume filters: {error.message}") from None
    return json_reply(await call.engine.volumes.list(filters))


async def create(call: Call) -> Reply:
    """POST /volumes/create: 201 also for one that is there already, as dockerd."""
    asked = await call.json(VolumeCreate) or VolumeCreate()
    if asked.cluster is not None:
        raise Unavailable(absent.NO_SWARM)
    made = await call.engine.volumes.create(asked.name, asked.driver, asked.driver_opts or {}, asked.labels or {})
    return json_reply(made, 201)


async def inspect(call: Call) -> Reply:
    """GET /volumes/{name}."""
    return json_reply(await call.engine.volumes.inspect(call.name))


async def remove(call: Call) -> Reply:
    """DELETE /volumes/{name}."""
    await call.engine.volumes.remove(call.name, call.flag("force"))
    return Reply(204)


def _labels(call: Call) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in call.texts("label"))


async def export(call: Call) -> Stream:
    """GET /wherry/v1/volumes/export?name=…: a tar stream."""
    name = required(call.text("name"), "the name of a volume is needed")
    with call.while_client_stays():
        archive = await call.engine.volumes.export(name)
        stream = call.stream("application/x-tar")
        await stream.pass_on(archive)
    return stream


async def import_(call: Call) -> Reply:
    """POST /wherry/v1/volumes/import?name=…&label=…: the body is a tar archive."""
    with call.while_client_stays():
        made = await call.engine.volumes.import_(call.text("name"), _labels(call), call.chunks())
    return json_reply(made, 201)


async def clone(call: Call) -> Reply:
    """POST /wherry/v1/volumes/clone?from=…&name=…&label=…."""
    source = required(call.text("from"), "the name of a volume is needed")
    with call.while_client_stays():
        made = await call.engine.volumes.clone(source, call.text("name"), _labels(call))
    return json_reply(made, 201)


async def prune(call: Call) -> Reply:
    """POST /volumes/prune. Before 1.42 the named ones went too."""
    filters = call.filters()
    if call.version < (1, 42):
        filters["all"] = ["1"]
    return json_reply(await call.engine.volumes.prune(filters))
