"""The server: the application, its listeners, its beginning and its end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from wherry.errors import InvalidArgument, WherryError
from wherry.linux import heap
from wherry.registry.access import METRICS, Authorizer, Open
from wherry.registry.api.dispatch import Dispatcher
from wherry.registry.api.replies import reply_error
from wherry.registry.audit import FileAudit, NoAudit
from wherry.registry.board import Board
from wherry.registry.config import Settings, Tls
from wherry.registry.door import Door, Handle
from wherry.registry.listener import Listener
from wherry.registry.observe import AccessLog, configure, middleware
from wherry.registry.place import open_database, open_driver
from wherry.registry.service import SERVICE, Extension, Service

log = logging.getLogger("wherry.registry")

_READ_BUFFER: Final = 256 << 10
_BACKLOG: Final = 1024
_DRAIN_STEP: Final = 0.02
_PUBLISH: Final = 0.5


def create_service(settings: Settings, authorizer: Authorizer | None = None, board: Board | None = None) -> Service:
    """Wire a registry.

    Args:
        settings: the configuration.
        authorizer: who may do what; by default everybody, within `read_only` and `delete`.
        board: where workers show one another what they counted.
    """
    driver = open_driver(settings)
    database = open_database(settings)
    audit = FileAudit(settings.audit.file) if settings.audit.file else NoAudit()
    if authorizer is None:
        authorizer = Open(read_only=settings.read_only, delete=settings.delete)
    return Service(settings, driver, database, authorizer, audit, board)


def create_app(
    service: Service, access: AccessLog | None = None, extensions: Sequence[Extension] = ()
) -> web.Application:
    """Make the application.

    Args:
        service: what it serves.
        access: where answered requests are logged; None logs none.
        extensions: called with the application before it is frozen: they add routes (search, token, pages).
    """
    app = web.Application(middlewares=[middleware(service.metrics, access)])
    app[SERVICE] = service
    dispatcher = Dispatcher(service)
    app.router.add_route("*", "/v2/{tail:.*}", dispatcher.answer)
    app.router.add_get("/v2", _to_base)
    app.router.add_get("/healthz", _health)
    if service.settings.metrics:
        app.router.add_get("/metrics", _metrics)
    for extend in extensions:
        extend(app)
    return app


async def _to_base(_: web.Request) -> web.StreamResponse:
    raise web.HTTPMovedPermanently("/v2/")


async def _health(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    try:
        await service.run(service.driver.stat, "schema")
        await service.run(service.database.version, "-")
    except Exception as error:  # noqa: BLE001 — whatever it is, the answer is that it is not well
        log.error("not healthy", extra={"reason": str(error)[:300]})
        return web.json_response({"status": "unavailable"}, status=503)
    return web.json_response({"status": "ok"})


async def _metrics(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    try:
        caller = await service.authorizer.identify(request)
        await service.authorizer.require(request, caller, "", frozenset((METRICS,)))
    except WherryError as error:
        return reply_error(error)
    text = service.metrics.text()
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket.

    Raises:
        InvalidArgument: the address cannot be had.
    """
    host, port = settings.endpoint
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        raise InvalidArgument(f"listen on {settings.addr}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Read certificate and key.

    Raises:
        InvalidArgument: they cannot be read, or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"tls: {tls.certificate}, {tls.key}: {error}") from None
    return context


async def collect_forever(service: Service) -> None:
    """Collect at the configured interval until cancelled."""
    while True:
        await asyncio.sleep(service.settings.gc.interval)
        try:
            freed = await asyncio.to_thread(service.collector.collect)
        except (WherryError, OSError) as error:
            log.error("collection failed", extra={"reason": str(error)})
            continue
        metrics = service.metrics
        metrics.collections += 1
        metrics.collected_bytes += freed.size
        metrics.collected_blobs += freed.blobs
        if freed.blobs or freed.manifests or freed.uploads or freed.repositories or freed.damaged:
            log.info(
                "collected",
                extra={
                    "freed_bytes": freed.size,
                    "blobs": freed.blobs,
                    "manifests": freed.manifests,
                    "uploads": freed.uploads,
                    "repositories": freed.repositories,
                    "damaged": freed.damaged,
                },
            )


async def _publish_forever(service: Service) -> None:
    while True:
        service.metrics.publish()
        await asyncio.sleep(_PUBLISH)


async def serve(
    settings: Settings,
    sock: socket.socket,
    *,
    collect: bool = True,
    board: Board | None = None,
    authorizer: Authorizer | None = None,
    extensions: Sequence[Extension] = (),
    file: str = "",
    join: Callable[[], tuple[Authorizer | None, Sequence[Extension]]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then let requests under way end. SIGHUP reads the certificate anew.

    Args:
        settings: the configuration.
        sock: the listening socket.
        collect: whether this process also collects.
        board: where workers show one another what they counted.
        authorizer: who may do what.
        extensions: as `create_app` takes them.
        file: whose appearance says that there are accounts; "" if there are, or never will be.
        join: gives authorizer and extensions then.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = create_service(settings, authorizer, board)
    context = tls_context(settings.tls) if settings.tls else None
    changed = await asyncio.to_thread(service.repositories.catch_up)
    if changed:
        log.info("metadata caught up", extra={"repositories": changed})
    access = AccessLog() if settings.log.access else None
    app = create_app(service, access, extensions)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)  # for what is left when `_drained` has waited
    await runner.setup()
    assert runner.server is not None
    runners = [runner]

    async def close() -> Handle:
        assert join is not None
        found, further = await asyncio.to_thread(join)
        if found is None:
            raise InvalidArgument("the accounts are gone again")
        service.authorizer = found  # from here on requests under way ask it, too
        successor = web.AppRunner(create_app(service, access, further), access_log=None)
        await successor.setup()
        runners.append(successor)
        assert successor.server is not None
        return successor.server.request_handler

    door = Door(runner.server.request_handler, file, close)
    loop.add_signal_handler(signal.SIGHUP, _reload, service, context, door)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked by `workers.py` until now
    listener = Listener(
        runner.server,
        door.answer,
        sock,
        settings.limits,
        settings.timeouts,
        context=context,
        proxies=settings.accounts.networks,
        malformed=access.malformed if access is not None else None,
        access_log=None,
        auto_decompress=False,  # a body is stored as it came
        read_bufsize=_READ_BUFFER,
    )
    # read before the listener's end closes it
    host, port = sock.getsockname()[:2]
    listener.start()
    tasks = []
    if collect and settings.gc.interval > 0:
        tasks.append(asyncio.create_task(collect_forever(service)))
    if board is not None:
        tasks.append(asyncio.create_task(_publish_forever(service)))
    gc.collect()
    gc.freeze()
    log.info("serving", extra={"address": f"{host}:{port}", "root": settings.root, "tls": context is not None})
    try:
        await stop.wait()
        log.info("ending")
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        listener.stop()
        await _drained(service, settings.shutdown_timeout)
        for one in runners:
            await one.cleanup()
        if access is not None:
            access.flush()
        await asyncio.to_thread(service.close)


async def _drained(service: Service, timeout: float) -> None:
    """Wait for requests under way: aiohttp's own end lets handlers finish, but reads nothing more of their bodies."""
    deadline = time.monotonic() + timeout
    while service.metrics.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 — a counter, once in a life
        await asyncio.sleep(_DRAIN_STEP)


def _reload(service: Service, context: ssl.SSLContext | None, door: Door) -> None:
    tls = service.settings.tls
    try:
        if context is not None and tls is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        if isinstance(service.audit, FileAudit):
            service.audit.reopen()
        log.info("certificate and audit log opened anew; the configuration is read at a start only")
    except (OSError, ssl.SSLError) as error:
        log.error("not reloaded", extra={"reason": str(error)})
    task = asyncio.get_running_loop().create_task(door.look())
    task.add_done_callback(lambda done: done.exception())


def run(settings: Settings, sock: socket.socket, *, collect: bool = True, board: Board | None = None) -> None:
    """Serve in this process; returns when it was told to end."""
    configure(settings.log.level)
    heap.keep_flat()
    os.umask(0o077)

    from wherry.registry.accounts.service import accounts_file
    from wherry.registry.web.join import joined

    authorizer, extensions = joined(settings)
    if authorizer is None:
        may = "pull" if settings.read_only else "push"
        log.warning(
            "this registry has no accounts: anybody who reaches it may %s", may, extra={"address": settings.addr}
        )
    asyncio.run(
        serve(
            settings,
            sock,
            collect=collect,
            board=board,
            authorizer=authorizer,
            extensions=extensions,
            file=accounts_file(settings) if authorizer is None else "",
            join=lambda: joined(settings),
        )
    )
