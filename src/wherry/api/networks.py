"""Networks: list, inspect, create, remove, prune, connect, disconnect."""

from wherry.api.call import Call, required
from wherry.api.reply import Reply, json_reply
from wherry.errors import AmbiguousPrefix, InvalidArgument, NetworkNotFound
from wherry.values.gotext import FALSE, TRUE
from wherry.wire.networks import ConnectRequest, DisconnectRequest, NetworkCreate


async def listing(call: Call) -> Reply:
    """GET /networks."""
    found = await call.engine.networks.list(call.filters())
    if call.version >= (1, 28):
        # only inspect tells who is on a network
        found = [{**entry, "Containers": {}} for entry in found]
    return json_reply(found)


async def inspect(call: Call) -> Reply:
    """GET /networks/{id}."""
    verbose = call.text("verbose")
    if verbose and verbose not in TRUE | FALSE:
        raise InvalidArgument(
            f'invalid value for verbose: {verbose}: strconv.ParseBool: parsing "{verbose}": invalid syntax'
        )
    if call.text("scope") not in ("", "local"):
        raise NetworkNotFound(f"network {call.name} not found")
    try:
        return json_reply(await call.engine.networks.inspect(call.name))
    except AmbiguousPrefix as error:
        # here alone dockerd says it the other way round
        count = error.facts["matches"]
        raise AmbiguousPrefix(f"{count} matches found based on ID prefix: network {call.name} is ambiguous") from None


async def create(call: Call) -> Reply:
    """POST /networks/create."""
    request = await call.json(NetworkCreate)
    return json_reply(await call.engine.networks.create(request or NetworkCreate()), 201)


async def remove(call: Call) -> Reply:
    """DELETE /networks/{id}."""
    await call.engine.networks.remove(call.name)
    return Reply(204)


async def prune(call: Call) -> Reply:
    """POST /networks/prune."""
    return json_reply(await call.engine.networks.prune(call.filters()))


async def connect(call: Call) -> Reply:
    """POST /networks/{id}/connect."""
    request = await call.json(ConnectRequest)
    await call.engine.networks.attach(call.name, request or ConnectRequest())
    return Reply(200)


async def disconnect(call: Call) -> Reply:
    """POST /networks/{id}/disconnect."""
    request = await call.json(DisconnectRequest)
    await call.engine.networks.detach(call.name, request or DisconnectRequest())
    return Reply(200)


async def check(call: Call) -> Reply:
    """GET /wherry/v1/networks/check?container=…&port=…: what stands in the way, in words."""
    container = required(call.text("container"), "the name of a container is needed")
    return json_reply(await call.engine.networks.examine(container, call.text("port")))
