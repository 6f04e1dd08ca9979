"""`/containers/{id}/checkpoints`: what dockerd has as experimental."""

from wherry.api.call import Call
from wherry.api.reply import Reply, json_reply
from wherry.wire.containers import CheckpointCreate


async def create(call: Call) -> Reply:
    """POST /containers/{id}/checkpoints."""
    call.check_content_type()
    request = await call.json(CheckpointCreate) if call.has_body else None
    await call.engine.containers.checkpoint(call.name, request or CheckpointCreate())
    return Reply(201)


async def listing(call: Call) -> Reply:
    """GET /containers/{id}/checkpoints."""
    return json_reply(await call.engine.containers.checkpoints(call.name, call.text("dir")))


async def remove(call: Call) -> Reply:
    """DELETE /containers/{id}/checkpoints/{checkpoint}; the call's name holds both."""
    ref, _, name = call.name.rpartition("/checkpoints/")
    await call.engine.containers.remove_checkpoint(ref, name, call.text("dir"))
    return Reply(204)
