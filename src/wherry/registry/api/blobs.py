"""`/v2/<name>/blobs/<digest>`."""

import time

from aiohttp import web

from wherry.registry import names
from wherry.registry.access import READ, REMOVE, Caller
from wherry.registry.api.replies import headers, send_blob
from wherry.registry.observe import REQUEST_ID
from wherry.registry.service import Service


async def get(service: Service, request: web.BaseRequest, caller: Caller, name: str, value: str) -> web.StreamResponse:
    """GET and HEAD."""
    await service.authorizer.require(request, caller, name, READ)
    digest = names.digest(value)
    reader = service.repositories.open_blob(name, digest)
    if request.method == "HEAD" and time.time_ns() - reader.stat.modified > service.collector.delay * 0.5e9:
        # who asks may be about to push a manifest that needs it
        await service.run(service.repositories.renew, name, digest)
    return await send_blob(service, request, reader, digest)


async def delete(
    service: Service, request: web.BaseRequest, caller: Caller, name: str, value: str
) -> web.StreamResponse:
    """DELETE."""
    await service.authorizer.require(request, caller, name, REMOVE)
    digest = names.digest(value)
    await service.run(service.repositories.delete_blob, name, digest)
    service.audit.record(
        "blob.delete", caller=caller.name, request=request.get(REQUEST_ID, ""), repository=name, digest=digest
    )
    return web.Response(status=202, headers=headers(Docker_Content_Digest=digest))
