"""Our own calls, under `/wherry/v1/`: what Docker has no words for."""

from wherry.api.call import Call, required
from wherry.api.reply import Stream


async def bootstrap(call: Call) -> Stream:
    """POST /wherry/v1/bootstrap?name=…: make a base image from the distribution's packages.

    Answers JSON lines: progress as of a pull, then `{"aux": {"ID": "sha256:…"}}`; an error in band.
    """
    name = required(call.text("name"), "the name of a base image is needed")
    stream = call.stream()

    with call.while_client_stays():
        image_id = await call.engine.images.bootstrap(name, stream.send_json)
    stream.send_json({"aux": {"ID": image_id}})
    await stream.finish()
    return stream
