"""Lists: tags, referrers, the catalog."""

from bisect import bisect_right
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from wherry.oci.image import OCI_INDEX
from wherry.registry import names
from wherry.registry.access import CATALOG, READ, Caller
from wherry.registry.api.replies import headers, reply_json
from wherry.registry.content.manifests import MANIFEST_LIMIT
from wherry.registry.errors import PageInvalid
from wherry.registry.service import Service

_TAGS_PAGE = 10_000
_CATALOG_PAGE = 100
_CATALOG_SCANS = 20


def _count(request: web.BaseRequest, limit: int) -> int | None:
    """The parameter `n`, at most `limit`; None where it is not given."""
    text = request.query.get("n")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise PageInvalid("invalid number of results requested", n=text[:32])
    return min(int(text[:20]), limit)


def _next(path: str, **query: str) -> str:
    return f'<{path}?{urlencode(query)}>; rel="next"'


async def tags(service: Service, request: web.BaseRequest, caller: Caller, name: str, _: str) -> web.StreamResponse:
    """`GET /v2/<name>/tags/list`."""
    await service.authorizer.require(request, caller, name, READ)
    found = service.repositories.load(name).names
    count = _count(request, _TAGS_PAGE)
    last = request.query.get("last", "")
    if count is None and not last:
        return reply_json({"name": name, "tags": found})
    start = bisect_right(found, last) if last else 0
    page = found[start:] if count is None else found[start : start + count]
    if page and start + len(page) < len(found):
        link = _next(f"/v2/{name}/tags/list", n=str(count), last=page[-1])
        return reply_json({"name": name, "tags": page}, Link=link)
    return reply_json({"name": name, "tags": page})


async def referrers(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, value: str
) -> web.StreamResponse:
    """`GET /v2/<name>/referrers/<digest>`; pages end below the size that a manifest may have."""
    await service.authorizer.require(request, caller, name, READ)
    digest = names.digest(value)
    found = await service.run(service.repositories.referrers, name, digest)
    made = headers(Content_Type=OCI_INDEX)
    wanted = request.query.get("artifactType")
    if wanted is not None:
        found = [referrer for referrer in found if referrer.artifact_type == wanted]
        made["OCI-Filters-Applied"] = "artifactType"
    last = request.query.get("last")
    if last is not None:
        digests = [referrer.digest for referrer in found]
        found = found[digests.index(last) + 1 :] if last in digests else []
    size = 1024
    page: list[bytes] = []
    for referrer in found:
        descriptor: dict[str, Any] = {
            "mediaType": referrer.media_type,
            "digest": referrer.digest,
            "size": referrer.size,
        }
        if referrer.artifact_type:
            descriptor["artifactType"] = referrer.artifact_type
        if referrer.annotations:
            descriptor["annotations"] = referrer.annotations
        encoded = msgspec.json.encode(descriptor)
        if page and size + len(encoded) > MANIFEST_LIMIT:
            more = {"artifactType": wanted} if wanted is not None else {}
            made["Link"] = _next(f"/v2/{name}/referrers/{digest}", **more, last=found[len(page) - 1].digest)
            break
        page.append(encoded)
        size += len(encoded) + 1
    body = b'{"schemaVersion":2,"mediaType":"' + OCI_INDEX.encode() + b'","manifests":[' + b",".join(page) + b"]}"
    return web.Response(body=body, headers=made)


async def catalog(service: Service, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
    """`GET /v2/_catalog`: those repositories that the caller may know of."""
    await service.authorizer.require(request, caller, "", frozenset((CATALOG,)))
    limit = service.settings.limits.catalog
    count = _count(request, limit)
    count = min(_CATALOG_PAGE, limit) if count is None else count
    last = request.query.get("last", "")[: names.NAME_MAX]
    page: list[str] = []
    more = count > 0
    scans = 0
    while more and len(page) < count and scans < _CATALOG_SCANS:
        wanted = count - len(page) + 1
        found = await service.run(service.database.names, last, wanted)
        visible = await service.authorizer.visible(caller, found)
        scans += 1
        more = len(found) == wanted
        if len(page) + len(visible) > count:
            visible = visible[: count - len(page)]
            page += visible
            last = page[-1]
            break
        page += visible
        last = found[-1] if found else last
    if more and last:
        return reply_json({"repositories": page}, Link=_next("/v2/_catalog", n=str(count), last=last))
    return reply_json({"repositories": page})
