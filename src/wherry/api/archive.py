"""Copy: `/containers/{id}/archive`."""

from base64 import b64encode

import msgspec

from wherry.api.call import Call
from wherry.api.reply import Reply, Stream
from wherry.errors import InvalidArgument

TAR = "application/x-tar"


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidArgument("bad parameter: pathcannot be empty")
    if "\0" in path:
        raise InvalidArgument("bad parameter: a path holds no NUL byte")
    return path


def _stat_header(found: dict[str, object]) -> str:
    return f"X-Docker-Container-Path-Stat: {b64encode(msgspec.json.encode(found)).decode()}\r\n"


async def head(call: Call) -> Reply:
    """HEAD /containers/{id}/archive."""
    found = await call.engine.containers.path_stat(call.name, _path(call))
    return Reply(200, headers=_stat_header(found))


async def get(call: Call) -> Stream:
    """GET /containers/{id}/archive: a tar stream; what breaks off in the midst ends the connection."""
    with call.while_client_stays():
        copied = await call.engine.containers.copy_out(call.name, _path(call))
        stream = call.stream(TAR)
        stream.headers = _stat_header(copied.stat)
        await stream.pass_on(copied.archive)
    return stream


async def put(call: Call) -> Reply:
    """PUT /containers/{id}/archive; `chown` is ours."""
    path = _path(call)
    if call.text("chown") and call.flag("copyUIDGID"):
        raise InvalidArgument("bad parameter: chown and copyUIDGID exclude each other")
    with call.while_client_stays():
        await call.engine.containers.copy_in(
            call.name,
            path,
            call.chunks(),
            call.flag("noOverwriteDirNonDir"),
            call.flag("copyUIDGID"),
            call.text("chown"),
        )
    return Reply(200)
