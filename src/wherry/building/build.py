"""`engine.build`: the builder, joined with containers' sandboxes, registries and the event stream."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from wherry.builder.assemble import Built
from wherry.builder.build import Build as One
from wherry.builder.build import Builder
from wherry.builder.cache import documents as cacheimages
from wherry.builder.cache.offers import Offers
from wherry.builder.cache.space import Space
from wherry.builder.cache.store import Cache
from wherry.builder.cache.upkeep import Upkeep
from wherry.builder.classic import Narrator, failure, result
from wherry.builder.contexts import context as contexts
from wherry.builder.contexts.checkout import outside
from wherry.builder.contexts.sent import SentContexts
from wherry.builder.contexts.sources import Sources
from wherry.builder.failure import StepFailed
from wherry.builder.request import Request
from wherry.building.client import ClientBuild
from wherry.building.steps import Steps
from wherry.building.streams import Asked, BuildStreams
from wherry.containers.context import Context
from wherry.distribution import credentials
from wherry.distribution.credentials import Credential
from wherry.distribution.settings import Settings as Registries
from wherry.errors import ImageNotFound, NotFound, WherryError
from wherry.events import Events
from wherry.images.images import Images as Store
from wherry.images.model import Image
from wherry.linux.background import background
from wherry.linux.loopwatch import aside, read_aside
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci import platform as platforms
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.images import LayerRecord
from wherry.values.jsontypes import Json
from wherry.wire.build import BuildRequest

Filters = dict[str, list[str]]
Progress = Callable[[Json], None]

_TIDY_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class Build:
    """Building images.

    Args:
        context: the verbs' wiring.
        store: the images.
        cache: the builder's cache.
        events: the event stream.
        registries: their settings.
    """

    def __init__(self, context: Context, store: Store, cache: Cache, events: Events, registries: Registries) -> None:
        self._context = context
        self._store = store
        self._events = events
        self.registries = registries
        self._outside = outside(context.config.builder)
        self.steps = Steps(context)
        self.streams = BuildStreams()
        self.sent = SentContexts(f"{context.roots.build}/contexts")
        self.builder = Builder(
            store.stores,
            cache,
            context.roots.build,
            run_worker=context.run_worker,
            run_task=self.steps.run,
            find_image=self.finder({}),
        )
        self._tidying: asyncio.Task[None] | None = None
        self.builder.tidy = self._tidy
        self._upkeep = Upkeep(f"{context.roots.build}/mounts", self.builder.locks, self.sent)

    # -- doors

    async def classic(
        self,
        request: Request,
        chunks: AsyncIterator[bytes],
        remote: str,
        auths: Json,
        quiet: bool,
        progress: Progress,
    ) -> None:
        """Docker's `POST /build`.

        Args:
            request: what is asked.
            chunks: the context, as an archive.
            remote: an address in place of it, or "".
            auths: credentials by registry, as `X-Registry-Config` has them.
            quiet: tell only the result.
            progress: takes Docker's messages.

        Raises:
            WherryError: before anything was told. A failure after that is told in band.
        """

        held: list[str] = []

        def say(text: str) -> None:
            if text and quiet:
                held.append(text)
            elif text:
                progress({"stream": text})

        build: One | None = None
        try:
            async with self.sources(request) as sources:
                if remote:
                    tree = await sources.remote_context(remote, request.path)
                else:
                    tree = await sources.archive(chunks)
                    tree, request.dockerfile = await sources.without_control_files(tree, request.path)
                finder = self.finder(auths, progress)
                offers = Offers(self._store.stores)
                for name in request.cache_from:
                    await self._take_local(name, offers)
                build = One(
                    self.builder, request, tree, _nowhere, fetch=sources.fetch, find_image=finder, offers=offers
                )
                narrator = Narrator(say)
                built = await build.run(narrator)
                await narrator.finish(build, built.id)
        except WherryError as error:
            # told when nothing is left to clean: the client goes away at once
            if build is None or (not held and not hasattr(build, "solver")):
                raise
            if held:
                progress({"stream": "".join(held)})
            text = failure(error)
            code = {"code": error.code} if isinstance(error, StepFailed) else {}
            progress({"errorDetail": {**code, "message": text}, "error": text})
            return
        progress({"aux": {"ID": built.id}})
        if quiet:
            progress({"stream": f"{built.id}\n"})
        else:
            result(say, built.id, build.names)
        self.told(built, build)

    async def _take_local(self, name: str, offers: Offers) -> None:
        """Take in the cache that an image holds, if it is here."""
        stores = self._store.stores
        try:
            image = self._store.resolve(name)
            raw = stores.blobs.read(digests.parse(image.record.manifest), documents.MANIFEST_LIMIT)
            manifest = await read_aside(documents.read_manifest, raw)
            steps = (await aside(cacheimages.read, image.raw_config, manifest)).steps
        except WherryError:
            return  # one that is not there yet is none, for Docker too
        offers.add(steps, _absent)

    def told(self, built: Built, build: One) -> None:
        """Tell the event stream of the names that a build has set."""
        for name in build.names:
            self._events.publish("image", "tag", built.id, {"name": name.familiar()})

    async def client(
        self,
        wire: BuildRequest,
        auths: Json,
        send: Callable[[Any], None],
        write: Callable[[bytes, int], Awaitable[None]],
    ) -> None:
        """`POST /wherry/v1/build`; see `build_client.py`. The context is let go of afterwards."""
        try:
            await ClientBuild(self, wire, auths, send, write).run()
        finally:
            places = [place.attrs.get("sent", "") for place in wire.cache_from]
            for id_ in (wire.context, *(given.removeprefix("sent:") for given in wire.contexts.values()), *places):
                await self.sent.release(id_)

    async def archive(self, chunks: AsyncIterator[bytes]) -> str:
        """Take a context that comes as an archive; returns what it is called by."""
        overlay = self._store.stores.overlay
        return self.sent.adopt(await contexts.unpack(overlay, self._context.run_worker, chunks), overlay.abandon)

    async def push(self, name: Reference, auths: Json, progress: Progress) -> None:
        """Push one name of a result."""
        await self._store.push(self.registries, name, progress, self.credential(auths, name.domain))

    @staticmethod
    def credential(auths: Mapping[str, Any], domain: str) -> Credential:
        """The credential for a registry; Docker Hub's has a name of its own."""
        names = ("https://index.docker.io/v1/", "index.docker.io", "docker.io") if domain == "docker.io" else (domain,)
        for name, value in auths.items():
            if name in names or credentials.server_host(name) == domain:
                return credentials.from_json(value)
        return credentials.NOBODY

    @property
    def images(self) -> Store:
        """The images."""
        return self._store

    def connected(self, token: str) -> Asked:
        """What takes the connection of a client that was asked for one. Raises `NotFound`."""
        return self.streams.ticket(token)

    async def resize(self, id_: str, rows: int, columns: int) -> None:
        """Tell the shell in a failed step that its terminal has another size. Raises `NotFound`."""
        await self.steps.resize(id_, rows, columns)

    def sources(self, request: Request, agent: str = "") -> Sources:
        """What a build fetches; gone with it. `agent` is the socket of an ssh agent for checkouts."""
        return Sources(
            self._store.stores.overlay,
            self._context.run_worker,
            self.registries,
            self._outside,
            agents={"default": agent} if agent else {},
            secrets=request.secrets,
        )

    # -- images

    def finder(self, auths: Mapping[str, Any], tell_pull: Progress | None = None) -> Any:
        """Give the function that finds base images with this caller's credentials."""

        async def find(name: str, platform: str, pull: bool, tell: Progress) -> Image:
            if not pull:
                try:
                    found = self._store.resolve(name)
                except ImageNotFound:
                    found = None
                if found is not None and _fits(found, platform):
                    return found
            reference = parse_normalized(name).with_default_tag()
            progress = tell_pull or tell
            await self._store.pull(
                self.registries, reference, progress, self.credential(auths, reference.domain), platform or None
            )
            return self._store.resolve(name)

        return find

    # -- the cache

    def usage(self) -> list[Json]:
        """Docker's `BuildCache` entries."""
        return [*self.builder.cache.listing(self.builder.in_use()), *self._upkeep.listing()]

    async def prune(self, filters: Filters, everything: bool, space: Space) -> Json:
        """Forget cached steps and cache mounts; Docker's report."""
        mounts = await asyncio.to_thread(self._upkeep.records)
        ids, freed = await self.builder.cache.prune(
            filters,
            everything=everything,
            space=space,
            in_use=self.builder.in_use() | self._upkeep.in_use(mounts),
            beside=mounts,
        )
        await asyncio.to_thread(self._upkeep.remove, ids)
        if everything and not filters and not space.limited:
            freed += await self.sent.prune()
            await asyncio.to_thread(self._upkeep.sweep)
        await self._store.collect()
        self._events.publish("builder", "prune", "", {"reclaimed": str(freed)})
        return {"CachesDeleted": ids or None, "SpaceReclaimed": freed}

    async def _tidy(self) -> None:
        """Keep layers to the rules now, and cache mounts, whose files must be counted, when nobody waits for it."""
        await self.builder.shrink()
        if self.builder.cache.rules and self._tidying is None and self._upkeep.any():
            self._tidying = background().start("keep cache mounts to the rules", self._tidy_mounts(), _TIDY_SECONDS)

    async def _tidy_mounts(self) -> None:
        try:
            mounts = await asyncio.to_thread(self._upkeep.records)
            in_use = self.builder.in_use() | self._upkeep.in_use(mounts)
            ids, _ = await self.builder.cache.shrink(in_use, mounts)
            await asyncio.to_thread(self._upkeep.remove, ids)
            if ids:
                await self._store.collect()
        except WherryError as error:
            _log.warning("the builder's cache could not be kept to its rules: %s", error)
        finally:
            self._tidying = None


def _nowhere(_message: Json) -> None:
    return None


async def _absent(layer: LayerRecord) -> None:
    raise NotFound(f"blob {layer.blob}: not found")


def _fits(image: Image, platform: str) -> bool:
    if not platform:
        return True
    return image.config.platform.architecture == platforms.parse(platform).architecture
