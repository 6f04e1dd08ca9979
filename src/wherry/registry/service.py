"""One registry, wired: what every request handler is given."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from aiohttp import web

from wherry.registry.access import Authorizer
from wherry.registry.audit import Audit
from wherry.registry.board import Board
from wherry.registry.config import Settings
from wherry.registry.content.collect import Collector
from wherry.registry.content.repositories import Repositories
from wherry.registry.content.uploads import Uploads
from wherry.registry.metadata.database import Database
from wherry.registry.metrics import Metrics
from wherry.registry.storage.driver import Driver

_THREADS: Final = 8
_MANIFEST_CACHE: Final = 8 << 20

P = ParamSpec("P")
R = TypeVar("R")


class ManifestCache:
    """Bytes of manifests that were asked for lately, by digest; whether a repository lists one is asked elsewhere."""

    def __init__(self, limit: int = _MANIFEST_CACHE) -> None:
        self._limit = limit
        self._size = 0
        self._held: OrderedDict[str, bytes] = OrderedDict()

    def get(self, digest: str) -> bytes | None:
        """The bytes, if they are here."""
        found = self._held.get(digest)
        if found is not None:
            self._held.move_to_end(digest)
        return found

    def put(self, digest: str, raw: bytes) -> None:
        """Keep them."""
        if digest in self._held or len(raw) > self._limit // 8:
            return
        self._held[digest] = raw
        self._size += len(raw)
        while self._size > self._limit:
            self._size -= len(self._held.popitem(last=False)[1])


class Service:
    """Everything that serves; made once in a process.

    Args:
        settings: the configuration.
        driver: where repositories lie.
        database: what is kept about them.
        authorizer: who may do what.
        audit: where what changes is written.
        board: where the workers of one server show one another what they counted.
    """

    def __init__(
        self,
        settings: Settings,
        driver: Driver,
        database: Database,
        authorizer: Authorizer,
        audit: Audit,
        board: Board | None = None,
    ) -> None:
        self.settings = settings
        self.driver = driver
        self.database = database
        self.authorizer = authorizer
        self.audit = audit
        self.metrics = Metrics(board)
        self.repositories = Repositories(driver, database)
        self.uploads = Uploads(self.repositories, settings.limits.blob_bytes)
        self.collector = Collector(
            self.repositories,
            delay=settings.gc.delay,
            upload_delay=settings.gc.upload_delay,
            delete_untagged=settings.gc.untagged == "delete",
        )
        self.manifests = ManifestCache()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="registry")

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do something that blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *args, **kwargs))

    def submit(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[R]":
        """The same, begun now and awaited later."""
        return asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Wait for what is under way in threads, give up the database."""
        self._pool.shutdown(wait=True)
        self.database.close()


SERVICE: Final[web.AppKey[Service]] = web.AppKey("service", Service)
"""The key under which handlers find the service in their application."""

Extension = Callable[[web.Application], None]
"""Adds routes to an application before it is frozen."""
