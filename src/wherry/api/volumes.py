"""Volumes: `/volumes`."""

from wherry.api.call import Call
from wherry.api.reply import Reply, json_reply
from wherry.wire.volumes import VolumeCreate


async def listing(call: Call) -> Reply:
    """GET /volumes."""
    return json_reply(await call.engine.volumes.list(call.filters()))


async def create(call: Call) -> Reply:
    """POST /volumes/create: 201 also for one that is there already, as dockerd."""
    asked = await call.json(VolumeCreate) or VolumeCreate()
    made = await call.engine.volumes.create(asked.name, asked.driver, asked.driver_opts or {}, asked.labels or {})
    return json_reply(made, 201)


async def inspect(call: Call) -> Reply:
    """GET /volumes/{name}."""
    return json_reply(await call.engine.volumes.inspect(call.name))


async def remove(call: Call) -> Reply:
    """DELETE /volumes/{name}."""
    await call.engine.volumes.remove(call.name, call.flag("force"))
    return Reply(204)


async def prune(call: Call) -> Reply:
    """POST /volumes/prune. Before 1.42 the named ones went too."""
    filters = call.filters()
    if call.version < (1, 42):
        filters["all"] = ["1"]
    return json_reply(await call.engine.volumes.prune(filters))
