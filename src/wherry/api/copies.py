"""`/wherry/v1/copy/…`: an image from one engine to another, without a registry. `images/copy.py` says how it goes."""

from wherry.api.call import Call, required
from wherry.api.reply import Reply, Stream, json_reply
from wherry.errors import InvalidArgument
from wherry.wire.copies import Offer


async def offer(call: Call) -> Reply:
    """GET …/offer?name=…: the image as an `Offer`."""
    name = required(call.text("name"), "the name of an image is needed")
    return json_reply(await call.engine.images.offer(name))


async def missing(call: Call) -> Reply:
    """POST …/missing, the offer its body: `[{"digest", "offset"}]`."""
    return json_reply(await call.engine.images.missing(await _offer(call)))


async def read(call: Call) -> Stream:
    """GET …/blob?digest=…&offset=…: the blob's bytes from there on."""
    digest = required(call.text("digest"), "a digest is needed")
    stream = call.stream("application/octet-stream")
    # an error before the first byte has a status; after it, the connection breaks off
    await stream.pass_on(call.engine.images.read_blob(digest, _natural(call, "offset")))
    return stream


async def receive(call: Call) -> Reply:
    """PUT …/blob?digest=…&size=…&offset=…: the rest of a blob, its body."""
    digest = required(call.text("digest"), "a digest is needed")
    await call.engine.images.receive_blob(digest, _natural(call, "size"), _natural(call, "offset"), call.chunks())
    return Reply(201)


async def assemble(call: Call) -> Stream:
    """POST …/assemble, the offer its body: JSON lines as of a pull, then `{"aux": {"ID"}}`; an error in band."""
    offered = await _offer(call)
    stream = call.stream()
    with call.while_client_stays():
        image_id = await call.engine.images.assemble(offered, stream.send_json)
    stream.send_json({"aux": {"ID": image_id}})
    await stream.finish()
    return stream


async def _offer(call: Call) -> Offer:
    offered = await call.json(Offer)
    if offered is None:
        raise InvalidArgument("an offer is needed")
    return offered


def _natural(call: Call, key: str) -> int:
    number = call.number(key, 0) or 0
    if number < 0:
        raise InvalidArgument(f"{key} must not be negative")
    return number
