"""Answers: errors by the table, blobs by sendfile."""

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from wherry.errors import WherryError
from wherry.registry.errors import Challenge, ManifestBlobUnknown, TooManyRequests, answer_for
from wherry.registry.service import Service
from wherry.registry.storage.driver import Reader

VERSION_HEADER: Final = "Docker-Distribution-Api-Version"
VERSION: Final = "registry/2.0"
_FAILED: Final = "the storage failed: the server's log has more under the request's X-Request-Id"
_SMALL: Final = 64 << 10
_PIECE: Final = 256 << 10


def headers(**values: str) -> CIMultiDict[str]:
    """Headers of an answer below `/v2/`; `_` in a name stands for `-`."""
    made = CIMultiDict({VERSION_HEADER: VERSION, "X-Content-Type-Options": "nosniff"})
    for name, value in values.items():
        made[name.replace("_", "-")] = value
    return made


def reply_json(value: Any, *, content_type: str = "application/json", **extra: str) -> web.Response:
    """200 with a JSON document."""
    return web.Response(body=msgspec.json.encode(value), headers=headers(Content_Type=content_type, **extra))


def reply_error(error: WherryError, more: dict[str, str] | None = None) -> web.Response:
    """The answer to a request that failed."""
    status, code = answer_for(error)
    facts = {key: value for key, value in error.facts.items() if isinstance(value, str | int | list)}
    message = error.message if status < 500 or status in (503, 507) else _FAILED
    errors: list[dict[str, Any]]
    if isinstance(error, ManifestBlobUnknown):
        digests = error.facts.get("digests", [])[:100]
        errors = [{"code": code, "message": message, "detail": {"digest": digest}} for digest in digests]
    else:
        errors = [{"code": code, "message": message, "detail": facts if status < 500 else {}}]
    made = headers(Content_Type="application/json")
    made.update(more or {})
    if isinstance(error, Challenge):
        made["WWW-Authenticate"] = error.header
    if isinstance(error, TooManyRequests):
        made["Retry-After"] = str(error.retry_after)
    return web.Response(status=status, body=msgspec.json.encode({"errors": errors}), headers=made)


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """Read a `Range` header (RFC 9110, section 14) for a value of `size` bytes.

    Returns:
        offset and count; None where the header asks for something else than one range of bytes, and is ignored.

    Raises:
        ValueError: the range lies behind the end: 416.
    """
    unit, equals, ranges = value.partition("=")
    if not equals or unit.strip().lower() != "bytes" or "," in ranges:
        return None
    first, dash, last = (part.strip() for part in ranges.partition("-"))
    if not dash or not (first or last) or not all(part == "" or _is_number(part) for part in (first, last)):
        return None
    if not first:
        count = min(int(last), size)
        if count == 0:
            raise ValueError
        return size - count, count
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError
    return start, end - start + 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def matches(request: web.BaseRequest, tag: str) -> bool:
    """Whether `If-None-Match` names the entity tag that the answer would have."""
    value = request.headers.get("If-None-Match")
    if value is None:
        return False
    return value.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in value.split(","))


async def send_blob(service: Service, request: web.BaseRequest, reader: Reader, digest: str) -> web.StreamResponse:
    """Answer with a blob, or the range of it that was asked for. Closes `reader`."""
    with reader:
        tag = f'"{digest}"'
        made = headers(
            Content_Type="application/octet-stream", Docker_Content_Digest=digest, ETag=tag, Accept_Ranges="bytes"
        )
        if matches(request, tag):
            return web.Response(status=304, headers=made)
        offset, count, status = 0, reader.size, 200
        wanted = request.headers.get("Range")
        condition = request.headers.get("If-Range")
        if wanted is not None and (condition is None or condition.strip() == tag):
            try:
                found = parse_range(wanted, reader.size)
            except ValueError:
                made["Content-Range"] = f"bytes */{reader.size}"
                return web.Response(status=416, headers=made)
            if found is not None:
                offset, count = found
                status = 206
                made["Content-Range"] = f"bytes {offset}-{offset + count - 1}/{reader.size}"
        made["Content-Length"] = str(count)
        if request.method == "HEAD":
            return web.Response(status=status, headers=made)
        service.metrics.sent += count
        if count <= _SMALL:
            return web.Response(status=status, body=reader.read_at(offset, count), headers=made)
        response = web.StreamResponse(status=status, headers=made)
        await response.prepare(request)
        await _stream(service, request, response, reader, offset, count)
        await response.write_eof()
        return response


async def _stream(
    service: Service, request: web.BaseRequest, response: web.StreamResponse, reader: Reader, offset: int, count: int
) -> None:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    if reader.fileno() >= 0 and transport.get_extra_info("sslcontext") is None:
        with open(reader.fileno(), "rb", buffering=0, closefd=False) as file:
            await asyncio.get_running_loop().sendfile(transport, file, offset, count, fallback=False)
        return
    while count > 0:
        data = await service.run(reader.read_at, offset, min(_PIECE, count))
        if not data:
            raise ConnectionResetError("the blob is shorter than its size")
        await response.write(data)
        offset += len(data)
        count -= len(data)
