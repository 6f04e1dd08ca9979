"""What can be seen of the server from outside: JSON logs with request ids, and counters.

A log line holds no query, no header but the agent's name, and no upload session in full: no credential gets into it.
"""

import asyncio
import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError
from aiohttp.web import RequestPayloadError

from wherry.registry.metrics import Metrics

log = logging.getLogger("wherry.registry")

_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SESSION = re.compile(r"(/blobs/uploads/(?:sha256|sha512)\.[0-9a-f]{8})[0-9a-f]*")
REQUEST_ID: Final[web.RequestKey[str]] = web.RequestKey("id", str)
CALLER: Final[web.RequestKey[str]] = web.RequestKey("caller", str)
ROUTE: Final[web.RequestKey[str]] = web.RequestKey("route", str)
"""What a request carries: its id, the name of who makes it, the word under which it is counted."""

_FLUSH_SECONDS: Final = 0.05
_FLUSH_BYTES: Final = 64 << 10

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        value: dict[str, Any] = {
            "time": _now(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        value.update((key, item) for key, item in record.__dict__.items() if key not in _PLAIN)
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, default=str, ensure_ascii=False)


def _now(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1e6) % 1_000_000:06d}Z"


def configure(level: str) -> None:
    """Send the logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class Seldom:
    """Says in full once a minute what strangers, or a defect, can make happen thousands of times.

    Args:
        every: seconds between two full ones of the same kind.
    """

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._last: dict[str, float] = {}
        self._more: dict[str, int] = {}

    def _is_due(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(kind, -self._every) < self._every:
            self._more[kind] = self._more.get(kind, 0) + 1
            return False
        self._last[kind] = now
        return True

    def warning(self, message: str, **facts: Any) -> None:
        """Log a line, or count it for the next one.

        Args:
            message: one of a few fixed ones.
            facts: of this occurrence.
        """
        if self._is_due(message):
            log.warning(message, extra={**facts, "unsaid": self._more.pop(message, 0)})

    def exception(self, message: str, error: BaseException | None, **facts: Any) -> None:
        """Log a line for each exception, with its traceback for the first of a place in the code.

        Args:
            message: what failed.
            error: why.
            facts: what leads from an answer to this line.
        """
        frame = error.__traceback__ if error is not None else None
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        at = f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}" if frame is not None else ""
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        full = self._is_due(f"{message} {at}")
        log.error(message, extra={**facts, "reason": reason, "at": at}, exc_info=error if full else None)


SELDOM: Final = Seldom()


class AccessLog:
    """Lines of answered requests, written some at a time: one write for each would be a cost of every small request.

    Args:
        fd: where they go.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, **facts: Any) -> None:
        """Add a line."""
        line = msgspec.json.encode(facts) + b"\n"
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def malformed(self, remote: str, status: int, reason: str) -> None:
        """Add the line of a request that could not be read."""
        self.write(
            time=_now(time.time()),
            level="info",
            message="malformed request",
            status=status,
            remote=remote,
            reason=reason,
        )

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data, self._lines, self._size = b"".join(self._lines), [], 0
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:
                return  # nobody reads the log any more; serving goes on


def route_of(request: web.BaseRequest, route: str) -> None:
    """Say under which word a request is counted."""
    request[ROUTE] = route


def middleware(metrics: Metrics, access: AccessLog | None) -> Any:
    """Give every request an id, count it, log it, and answer what a handler did not catch.

    Args:
        metrics: where it is counted.
        access: where it is logged; None logs none.
    """

    @web.middleware
    async def observe(request: web.Request, handler: Handle) -> web.StreamResponse:
        began = time.perf_counter()
        given = request.headers.get("X-Request-Id")
        request[REQUEST_ID] = id_ = given if given and _ID.fullmatch(given) else secrets.token_hex(8)
        metrics.in_flight += 1
        status = 500
        sent = 0
        try:
            response = await handler(request)
            status = response.status
            if not response.prepared:
                response.headers["X-Request-Id"] = id_
                sent = response.content_length or 0
            else:
                sent = response.body_length
            return response
        except web.HTTPException as error:
            status = error.status
            error.headers["X-Request-Id"] = id_
            raise
        except (ConnectionError, asyncio.CancelledError):
            status = 499  # the client went away
            raise
        except (RequestPayloadError, TransferEncodingError, ContentLengthError) as error:
            status = 400
            text = f"the request's body cannot be read: {' '.join(str(error).split())[:120]}"
            return web.json_response(
                {"errors": [{"code": "UNSUPPORTED", "message": text, "detail": {}}]},
                status=400,
                headers={"X-Request-Id": id_},
            )
        except Exception as error:  # noqa: BLE001 — whatever it is, the answer says where to look
            SELDOM.exception("request failed", error, request=id_)
            text = f"{request.method[:16]} {_path(request)} failed: the registry's log has more under request {id_}"
            return web.json_response(
                {"errors": [{"code": "UNKNOWN", "message": text, "detail": {"request": id_}}]},
                status=500,
                headers={"X-Request-Id": id_},
            )
        finally:
            took = time.perf_counter() - began
            metrics.in_flight -= 1
            metrics.request(request.get(ROUTE) or request.get("route", "other"), _method(request.method), status, took)
            if access is not None:
                access.write(
                    time=_now(time.time()),
                    level="info",
                    message="request",
                    request=id_,
                    method=request.method[:16],
                    path=_path(request),
                    status=status,
                    bytes=sent,
                    milliseconds=round(took * 1000, 2),
                    remote=request.remote,
                    caller=request.get(CALLER) or request.get("caller", ""),
                    agent=request.headers.get("User-Agent", "")[:120],
                )

    return observe


def _method(method: str) -> str:
    # a label: hostile clients must not make new ones
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "OTHER"


def _path(request: web.Request) -> str:
    return _SESSION.sub(r"\1…", request.rel_url.raw_path)[:400]
