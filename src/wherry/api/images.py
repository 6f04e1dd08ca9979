"""`/images/…`: names may hold slashes, and their end tells the verb."""

from wherry.api.call import Call, required
from wherry.api.reply import Reply, Stream, json_reply
from wherry.errors import InvalidArgument
from wherry.oci.image import PlatformSpec
from wherry.oci.platform import Platform
from wherry.wire import images as wire
from wherry.wire.containers import Config
from wherry.wire.decode import decode

_MANIFESTS_SINCE = (1, 47)
TAR = "application/x-tar"


async def listing(call: Call) -> Reply:
    """GET /images/json."""
    found = await call.engine.images.list(call.filters(), call.flag("all"))
    shared = await call.engine.images.shared_sizes() if call.flag("shared-size") else None
    lines = [wire.summary(image, call.version, shared=shared) for image in found]
    if call.flag("manifests") and call.version >= _MANIFESTS_SINCE:
        for line in lines:
            line["Manifests"] = await call.engine.images.local_manifests(line["Id"])
            # beside its platforms an image is shown with all that they take: what was fetched, and what was unpacked
            total = sum(entry["Size"]["Total"] for entry in line["Manifests"] if entry.get("Available"))
            line["Size"] = max(line["Size"], total)
    lines.sort(key=lambda line: line["Created"], reverse=True)
    return json_reply(lines)


async def inspect(call: Call) -> Reply:
    """GET /images/{name}/json."""
    return json_reply(wire.inspect(await call.engine.images.resolve(call.name), call.version))


async def history(call: Call) -> Reply:
    """GET /images/{name}/history."""
    return json_reply(await call.engine.images.history(call.name))


async def tag(call: Call) -> Reply:
    """POST /images/{name}/tag."""
    await call.engine.images.tag(call.name, call.text("repo"), call.text("tag"))
    return Reply(201)


async def remove(call: Call) -> Reply:
    """DELETE /images/{name}."""
    return json_reply(await call.engine.images.remove(call.name, call.flag("force"), call.flag("noprune")))


async def prune(call: Call) -> Reply:
    """POST /images/prune."""
    return json_reply(await call.engine.images.prune(call.filters()))


async def load(call: Call) -> Stream:
    """POST /images/load: progress as JSON lines, an error in band (dockerd's status is 200 in any case)."""
    stream = call.stream()
    stream.open()
    await call.engine.images.load(call.chunks(), stream.send_json, call.flag("quiet", True))
    await stream.finish()
    return stream


async def save_one(call: Call) -> Stream:
    """GET /images/{name}/get."""
    return await _save(call, [call.name])


async def save_many(call: Call) -> Stream:
    """GET /images/get?names=…"""
    # the docker command repeats the parameter, other clients separate by commas
    names = [name for value in call.texts("names") for name in value.split(",") if name]
    if not names:
        raise InvalidArgument("no image names given")
    return await _save(call, names)


async def _save(call: Call, names: list[str]) -> Stream:
    stream = call.stream(TAR)
    # errors before the first byte have a status; after it, the connection breaks off
    await stream.pass_on(call.engine.images.save(names))
    return stream


async def create(call: Call) -> Reply | Stream:
    """POST /images/create: import (`fromSrc`), or pull (`fromImage`)."""
    source, image = call.text("fromSrc"), call.text("fromImage")
    if image:
        return await _pull(call, image)
    if not source:
        raise InvalidArgument("one of fromImage and fromSrc must be given")
    if source != "-":
        return await _import_from(call, source)
    image_id = await call.engine.images.import_(
        call.chunks(),
        call.text("repo"),
        call.text("tag"),
        call.texts("changes"),
        call.text("message"),
        call.text("platform"),
    )
    stream = call.stream()
    stream.send_json({"status": image_id})
    await stream.finish()
    return stream


async def _import_from(call: Call, address: str) -> Stream:
    stream = call.stream()
    with call.while_client_stays():
        image_id = await call.engine.images.import_from(
            address,
            call.text("repo"),
            call.text("tag"),
            call.texts("changes"),
            call.text("message"),
            call.text("platform"),
            stream.send_json,
        )
    stream.send_json({"status": image_id})
    await stream.finish()
    return stream


async def commit(call: Call) -> Reply:
    """POST /commit: an image of what a container changed."""
    container = required(call.text("container"), 'invalid name or ID supplied: ""')
    config = await call.json(Config)
    image_id = await call.engine.images.commit(
        container,
        config,
        call.texts("changes"),
        call.text("author"),
        call.text("comment"),
        call.text("repo"),
        call.text("tag"),
        call.flag("pause", True),
    )
    return json_reply({"Id": image_id}, 201)


async def _pull(call: Call, image: str) -> Stream:
    stream = call.stream()
    # a client that goes away ends its pull; what came is kept for the next one
    with call.while_client_stays():
        await call.engine.images.pull(image, call.text("tag"), call.text("platform"), _auth(call), stream.send_json)
    await stream.finish()
    return stream


async def push(call: Call) -> Stream:
    """POST /images/{name}/push: progress as JSON lines, an error in band."""
    platform = platform_of(call.text("platform"))
    stream = call.stream()
    with call.while_client_stays():
        await call.engine.images.push(call.name, call.text("tag"), _auth(call), stream.send_json, platform)
    await stream.finish()
    return stream


async def search(call: Call) -> Reply:
    """GET /images/search."""
    term = call.text("term")
    try:
        limit = call.number("limit", 0) or 0
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid limit specified: {error.message}") from None
    return json_reply(await call.engine.images.search(term, limit, call.filters(), _auth(call)))


async def distribution(call: Call) -> Reply:
    """GET /distribution/{name}/json."""
    return json_reply(await call.engine.images.distribution(call.name, _auth(call)))


async def login(call: Call) -> Reply:
    """POST /auth."""
    # dockerd reads this body alone without a look at its type
    body = await call.body()
    if not body:
        raise InvalidArgument("EOF")
    try:
        asked = decode(body, dict)
    except InvalidArgument as error:
        raise InvalidArgument(error.message.removeprefix("invalid JSON: ")) from None
    return json_reply(await call.engine.images.login(asked or {}))


async def manifests(call: Call) -> Reply:
    """GET /wherry/v1/manifest?name=…&insecure=1&verbose=1: what a registry has under a name."""
    name = required(call.text("name"), "the name of an image is needed")
    return json_reply(
        await call.engine.images.manifests(name, _auth(call), call.flag("insecure"), call.flag("verbose"))
    )


async def check(call: Call) -> Stream:
    """POST /wherry/v1/check?repair=1: JSON lines of progress, then `{"aux": report}` (see `images.check`)."""
    stream = call.stream()
    with call.while_client_stays():
        report = await call.engine.images.check(call.flag("repair"), _auth(call), stream.send_json)
    stream.send_json({"aux": report})
    await stream.finish()
    return stream


async def remote_tags(call: Call) -> Reply:
    """GET /wherry/v1/tags?name=…: `{"Name", "Tags"}` of a repository in its registry."""
    name = required(call.text("name"), "the name of a repository is needed")
    return json_reply({"Name": name, "Tags": await call.engine.images.remote_tags(name, _auth(call))})


def platform_of(text: str) -> Platform | None:
    """Read a platform as clients of API 1.46 and later write it: a JSON object. Raises `InvalidArgument`."""
    if not text:
        return None
    try:
        spec = decode(text.encode(), PlatformSpec)
    except InvalidArgument as error:
        raise InvalidArgument(f"failed to parse platform: {error}") from None
    if spec is None or not spec.os or not spec.architecture:
        raise InvalidArgument("both OS and Architecture must be provided")
    return spec.normalized()


def _auth(call: Call) -> str:
    return str(call.request.headers.get("X-Registry-Auth", ""))
