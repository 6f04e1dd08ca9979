"""`/v2/<name>/blobs/uploads/`: blobs come in whole, in pieces, or are mounted from another repository."""

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from wherry.oci.digest import ALGORITHMS
from wherry.registry import names
from wherry.registry.access import PULL, WRITE, Caller
from wherry.registry.api.replies import headers
from wherry.registry.content.uploads import Upload
from wherry.registry.errors import (
    BlobUnknown,
    DigestInvalid,
    NameInvalid,
    RangeInvalid,
    SizeInvalid,
    UploadInvalid,
)
from wherry.registry.observe import REQUEST_ID
from wherry.registry.service import Service

if TYPE_CHECKING:
    import asyncio

_BATCH: Final = 512 << 10
_SOURCES: Final = 8
_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:\*|[0-9]{1,19}))?")


async def start(service: Service, request: web.BaseRequest, caller: Caller, name: str, _: str) -> web.StreamResponse:
    """POST: mount (`mount`, `from`), take a whole blob (`digest`), or begin a session."""
    await service.authorizer.require(request, caller, name, WRITE)
    query = request.query
    algorithm = query.get("digest-algorithm", "sha256")
    if algorithm not in ALGORITHMS:
        raise DigestInvalid("unsupported digest algorithm")
    if "mount" in query:
        digest = names.digest(query["mount"])
        source = await _mount(service, caller, name, query.get("from", ""), digest)
        if source:
            _tell(service, request, caller, "blob.mount", name, digest, source=source)
            return _created(name, digest)
        algorithm = digest.partition(":")[0]
    elif "digest" in query:
        digest = names.digest(query["digest"])
        upload = await service.run(service.uploads.start, name, digest.partition(":")[0])
        return await _finish(service, request, caller, upload, digest, keep=False)
    upload = await service.run(service.uploads.start, name, algorithm)
    await service.run(upload.close)
    return _accepted(name, upload.session, 0, 202)


async def _mount(service: Service, caller: Caller, name: str, source: str, digest: str) -> str:
    """Mount, if that can be done; returns from where, or "": the client uploads then."""
    try:
        candidates = [names.repository_name(source)] if source else []
    except NameInvalid:
        return ""
    if not source:
        candidates = await service.run(service.repositories.holders, digest, _SOURCES)
    for candidate in candidates:
        if not await service.authorizer.may(caller, candidate, PULL):
            continue
        try:
            await service.run(service.repositories.mount, name, candidate, digest)
        except BlobUnknown:
            continue
        return candidate
    return ""


async def status(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, session: str
) -> web.StreamResponse:
    """GET: how far it is."""
    await service.authorizer.require(request, caller, name, WRITE)
    return _accepted(name, session, service.uploads.size(name, session), 204)


async def patch(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, session: str
) -> web.StreamResponse:
    """PATCH: the next piece."""
    await service.authorizer.require(request, caller, name, WRITE)
    upload = await service.run(service.uploads.resume, name, session)
    try:
        await _receive(service, request, upload)
        size = upload.size
    finally:
        await service.run(upload.close)
    return _accepted(name, session, size, 202)


async def put(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, session: str
) -> web.StreamResponse:
    """PUT: the last piece, if there is one, and what all of it must hash to."""
    await service.authorizer.require(request, caller, name, WRITE)
    value = request.query.get("digest")
    if value is None:
        raise DigestInvalid("the digest of the blob is missing")
    digest = names.digest(value)
    upload = await service.run(service.uploads.resume, name, session)
    return await _finish(service, request, caller, upload, digest, keep=True)


async def _finish(
    service: Service, request: web.BaseRequest, caller: Caller, upload: Upload, digest: str, *, keep: bool
) -> web.StreamResponse:
    done = False
    try:
        await _receive(service, request, upload)
        await service.run(upload.finish, digest)
        done = True
    finally:
        # a session that the client knows can be continued, one that it does not is of no use
        await service.run(upload.close if keep or done else upload.cancel)
    _tell(service, request, caller, "blob.push", upload.name, digest)
    return _created(upload.name, digest)


async def cancel(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, session: str
) -> web.StreamResponse:
    """DELETE: give it up."""
    await service.authorizer.require(request, caller, name, WRITE)
    upload = await service.run(service.uploads.resume, name, session)
    try:
        await service.run(upload.cancel)
    finally:
        await service.run(upload.close)
    return web.Response(status=204, headers=headers())


async def _receive(service: Service, request: web.BaseRequest, upload: Upload) -> None:
    """Take the request's body. What came before a connection broke stays."""
    begin = upload.size
    expected = _announced(request, upload)
    content = request.content
    under_way: asyncio.Future[None] | None = None
    pieces: list[bytes] = []
    waiting = received = 0
    try:
        while piece := await content.readany():
            pieces.append(piece)
            waiting += len(piece)
            received += len(piece)
            if expected is not None and received > expected:
                break
            if waiting >= _BATCH:
                if under_way is not None:
                    await under_way
                under_way = service.submit(_write, upload, pieces)
                pieces, waiting = [], 0
    finally:
        # also what came before the client went away, so that it can go on from there
        service.metrics.received += received
        if under_way is not None:
            await under_way
        if pieces and (expected is None or received <= expected):
            await service.run(_write, upload, pieces)
    if expected is not None and received != expected:
        await service.run(upload.truncate, begin)
        raise SizeInvalid("provided length did not match content length", expected=expected, received=received)


def _write(upload: Upload, pieces: list[bytes]) -> None:
    for piece in pieces:
        upload.write(piece)


def _announced(request: web.BaseRequest, upload: Upload) -> int | None:
    """How many bytes the request says that it brings, once its `Content-Range` was checked."""
    length = request.content_length
    text = request.headers.get("Content-Range")
    if text is None:
        return length
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise UploadInvalid("invalid Content-Range", range=text[:64])
    first, last = int(found[1]), int(found[2])
    if length == 0 and last < first:
        return 0  # the closing PUT of some clients: nothing, behind the end
    if first != upload.size or last < first:
        raise RangeInvalid(
            "the chunk does not begin where the last one ended",
            location=_location(upload.name, upload.session),
            range=_range(upload.size),
        )
    if length is not None and length != last - first + 1:
        raise SizeInvalid("provided length did not match content range", expected=last - first + 1, received=length)
    return last - first + 1


def _location(name: str, session: str) -> str:
    return f"/v2/{name}/blobs/uploads/{session}"


def _range(size: int) -> str:
    return f"0-{max(size - 1, 0)}"


def _accepted(name: str, session: str, size: int, code: int) -> web.Response:
    made = headers(Location=_location(name, session), Range=_range(size), Docker_Upload_UUID=session)
    return web.Response(status=code, headers=made)


def _created(name: str, digest: str) -> web.Response:
    made = headers(Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)
    return web.Response(status=201, headers=made)


def _tell(
    service: Service, request: web.BaseRequest, caller: Caller, event: str, name: str, digest: str, **facts: str
) -> None:
    service.audit.record(
        event, caller=caller.name, request=request.get(REQUEST_ID, ""), repository=name, digest=digest, **facts
    )


def where(error: RangeInvalid) -> dict[str, str]:
    """Headers that tell a client whose chunk was out of order where to go on."""
    return {"Location": error.facts["location"], "Range": error.facts["range"]}
