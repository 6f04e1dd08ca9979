"""`/v2/<name>/manifests/<tag or digest>`."""

from urllib.parse import quote

from aiohttp import web

from wherry.registry import names
from wherry.registry.access import OVERWRITE, READ, REMOVE, WRITE, Caller
from wherry.registry.api.replies import headers, matches
from wherry.registry.content.manifests import MANIFEST_LIMIT
from wherry.registry.errors import ManifestTooLarge, ManifestUnknown, SizeInvalid, TagInvalid
from wherry.registry.observe import REQUEST_ID
from wherry.registry.service import Service

_TAGS_LIMIT = 100


async def get(service: Service, request: web.BaseRequest, caller: Caller, name: str, value: str) -> web.StreamResponse:
    """GET and HEAD."""
    await service.authorizer.require(request, caller, name, READ)
    if ":" in value:
        names.digest(value)
    elif not names.is_tag(value):
        raise ManifestUnknown("manifest unknown", name=name, reference=value[:160])
    digest, entry = service.repositories.resolve(name, value)
    tag = f'"{digest}"'
    made = headers(Content_Type=entry.media_type, Docker_Content_Digest=digest, ETag=tag)
    if matches(request, tag):
        return web.Response(status=304, headers=made)
    if request.method == "HEAD":
        if service.collector.delete_untagged and ":" in value:
            await service.run(service.repositories.renew, name, digest)
        made["Content-Length"] = str(entry.size)
        return web.Response(headers=made)
    raw = service.manifests.get(digest)
    if raw is None:
        raw = await service.run(service.repositories.read_manifest, name, digest)
        service.manifests.put(digest, raw)
    service.metrics.sent += len(raw)
    return web.Response(body=raw, headers=made)


async def put(service: Service, request: web.BaseRequest, caller: Caller, name: str, value: str) -> web.StreamResponse:
    """PUT; `?tag=` (repeated) gives further tags to a manifest that is pushed by digest."""
    await service.authorizer.require(request, caller, name, WRITE)
    reference = names.digest(value) if ":" in value else names.tag_name(value)
    tags = [names.tag_name(tag) for tag in request.query.getall("tag", ())] if ":" in value else []
    if len(tags) > _TAGS_LIMIT:
        raise TagInvalid(f"more than {_TAGS_LIMIT} tags")
    raw = await _body(request)
    pushed = await service.run(
        service.repositories.put_manifest,
        name,
        reference,
        raw,
        request.headers.get("Content-Type", ""),
        tags=tags,
        may_overwrite=await service.authorizer.may(caller, name, OVERWRITE),
    )
    service.metrics.received += len(raw)
    service.audit.record(
        "manifest.push",
        caller=caller.name,
        request=request.get(REQUEST_ID, ""),
        repository=name,
        digest=pushed.digest,
        tags=pushed.tags,
    )
    made = headers(Location=f"/v2/{name}/manifests/{quote(value, safe=':')}", Docker_Content_Digest=pushed.digest)
    if pushed.subject:
        made["OCI-Subject"] = pushed.subject
    if tags:
        made["OCI-Tag"] = ", ".join(pushed.tags)
    return web.Response(status=201, headers=made)


async def _body(request: web.BaseRequest) -> bytes:
    length = request.content_length
    if length is not None and length > MANIFEST_LIMIT:
        raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT} bytes")
    pieces = bytearray()
    async for piece in request.content.iter_any():
        pieces += piece
        if len(pieces) > MANIFEST_LIMIT:
            raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT} bytes")
    if length is not None and len(pieces) != length:
        raise SizeInvalid("provided length did not match content length")
    return bytes(pieces)


async def delete(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, value: str
) -> web.StreamResponse:
    """DELETE: by tag, only the tag; by digest, the manifest and all its tags."""
    await service.authorizer.require(request, caller, name, REMOVE)
    if ":" in value:
        digest = names.digest(value)
        tags = await service.run(service.repositories.delete_manifest, name, digest)
        event = "manifest.delete"
    else:
        tags = [names.tag_name(value)]
        digest = await service.run(service.repositories.delete_tag, name, value)
        event = "tag.delete"
    service.audit.record(
        event, caller=caller.name, request=request.get(REQUEST_ID, ""), repository=name, digest=digest, tags=tags
    )
    return web.Response(status=202, headers=headers(Docker_Content_Digest=digest))
