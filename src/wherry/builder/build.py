"""One build, from what is asked to what it gives: the one way that every door goes."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from wherry.builder import assemble
from wherry.builder.assemble import Built
from wherry.builder.cache import documents as cacheimages
from wherry.builder.cache.held import AllHeld, Held
from wherry.builder.cache.offers import CacheBroken, Offers
from wherry.builder.cache.store import Cache
from wherry.builder.contexts.context import Tree
from wherry.builder.contexts.root import Root
from wherry.builder.executor import Executor, Fetch
from wherry.builder.failure import StepFailed
from wherry.builder.graph.convert import Converted, Surroundings, convert
from wherry.builder.graph.operations import ContextSource, ImageSource, Vertex
from wherry.builder.graph.remotes import git_source, http_source, is_git, is_http
from wherry.builder.language.errors import DockerfileError, excerpt
from wherry.builder.language.excluding import rules
from wherry.builder.language.ignorefile import Matcher
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import Document, parse
from wherry.builder.language.stages import Plan, plan
from wherry.builder.language.variables import Globals
from wherry.builder.lint.checking import base_image
from wherry.builder.lint.linter import Surroundings as LintSurroundings
from wherry.builder.lint.linter import lint
from wherry.builder.mounts import CacheLocks, Mounts
from wherry.builder.ports import FindImage, RunTask, RunWorker, Task
from wherry.builder.progress import Sink, Step
from wherry.builder.request import Request
from wherry.builder.solver import AT_ONCE, Solver
from wherry.errors import InvalidArgument, NotFound, WherryError
from wherry.images.model import Image
from wherry.images.remove import collect
from wherry.images.stores import Stores
from wherry.images.tag import target as tag_target
from wherry.linux.loopwatch import aside
from wherry.oci import platform as platforms
from wherry.oci.reference import parse_normalized
from wherry.store.images import LayerRecord
from wherry.values import times
from wherry.values.jsontypes import Json

DOCKERFILE_LIMIT = 2 << 20
_NO_LAYER = {"empty_layer": True}
EPOCH_ARG = "SOURCE_DATE_EPOCH"


class Builder:
    """What all builds of an engine share.

    Args:
        stores: images, layers, blobs.
        cache: what steps have made.
        directory: where the builder keeps its own.
        run_worker, run_task, find_image: the engine's.
        fetch: gets downloads and checkouts (`sources.py`).
    """

    def __init__(
        self,
        stores: Stores,
        cache: Cache,
        directory: str,
        *,
        run_worker: RunWorker,
        run_task: RunTask,
        find_image: FindImage,
    ) -> None:
        self.stores = stores
        self.cache = cache
        self.directory = directory
        self.run_worker = run_worker
        self.run_task = run_task
        self.find_image = find_image
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.locks = CacheLocks()
        self.held = AllHeld(stores)
        self.tidy: Callable[[], Awaitable[None]] = self.shrink
        os.makedirs(f"{directory}/mounts", mode=0o700, exist_ok=True)

    def in_use(self) -> set[str]:
        """Chain ids that running builds stand on."""
        return self.held.chains()

    async def shrink(self) -> None:
        """Keep the cache to its rules."""
        if (await self.cache.shrink(self.in_use()))[1]:
            await collect(self.stores)


Narrate = Callable[["Build"], Awaitable[None]]


class Build:
    """One build.

    Args:
        builder: the engine's.
        request: what is asked.
        context: the build context, or None.
        sink: gets the progress (`progress.py`).
        fetch: gets downloads and checkouts.
        find_image: the engine's, with this caller's credentials.
        offers: what imported caches know.
    """

    def __init__(
        self,
        builder: Builder,
        request: Request,
        context: Tree | None,
        sink: Sink,
        *,
        fetch: Fetch,
        find_image: FindImage | None = None,
        offers: Offers | None = None,
    ) -> None:
        self.builder = builder
        self.request = request
        self.sink = sink
        self.context = context
        self._fetch = fetch
        self._find_image = find_image or builder.find_image
        self.offers = offers or Offers(builder.stores)
        self._platform = platforms.parse(request.platform) if request.platform else None
        self.names = [tag_target(tag) for tag in request.tags]
        self.held: Held
        self.solver: Solver
        self._work: Executor
        self.converted: Converted
        self.document: Document
        self.shared: Globals
        self._source = b""
        self.finished: Callable[[Built], Awaitable[None]] | None = None
        self.debugger: Callable[[Task, StepFailed], Awaitable[None]] | None = None

    async def run(self, narrate: Narrate | None = None) -> Built:
        """Build.

        Args:
            narrate: tells of the steps beside the work, in its own way.

        Returns:
            the image.

        Raises:
            DockerfileError: the Dockerfile is wrong; `facts["excerpt"]` shows where.
            WherryError: a step failed, an image is not there…; nothing of it is left but finished steps.
        """
        try:
            with self.builder.held.build() as self.held:
                async with AsyncExitStack() as stack:
                    try:
                        return await self._run(narrate, stack)
                    except StepFailed as error:
                        await self.solver.keep()
                        await self._debug(error)
                        raise
                    finally:
                        if hasattr(self, "_work") and self._work.failed is not None:
                            await self._work.failed[1].aclose()
        except WherryError as error:
            self._show_place(error)
            raise
        finally:
            await self.builder.tidy()

    async def _run(self, narrate: Narrate | None, stack: AsyncExitStack) -> Built:
        request = self.request
        self.document = await aside(self._read)
        self.shared, found = await self._plan()
        self._work = self._executor()
        self.converted = await aside(convert, found, self.shared, self.around)
        if request.style == "buildkit":
            await self._warn()
        try:
            return await self._solve(narrate, stack)
        except CacheBroken as error:
            self.sink({"warnings": [{"short": f"a build cache is not used: {error.message}"}]})
            self.offers.withdraw()
            await self.solver.close()
            return await self._solve(narrate, stack)

    async def _solve(self, narrate: Narrate | None, stack: AsyncExitStack) -> Built:
        request = self.request
        self.solver = Solver(
            self._work,
            self.builder.cache,
            self.sink,
            fresh=self._fresh,
            salt=str(request.settings.newest) if request.settings.newest is not None else "",
            gate=self.builder.gate,
            offers=self.offers,
        )
        stack.push_async_callback(self.solver.close)
        self.solver.recall([self.converted.target.root])
        work = asyncio.ensure_future(self.solver.root(self.converted.target.root))
        stack.push_async_callback(_settled, work)
        if narrate is not None:
            await narrate(self)
        return await self._finish(await work)

    async def _finish(self, root: Root) -> Built:
        request, stores = self.request, self.builder.stores
        root = await self._work.ready(root)
        await self.solver.keep()
        if request.squash:
            root = await self._squashed(root)
        epoch = request.settings.newest
        created = "" if epoch is None else times.exact(epoch)
        value = self.state_document(self.converted.target, root, created)
        if request.inline_cache:
            value[cacheimages.KEY] = cacheimages.described(
                root.layers, root, self.solver.records, self.solver.all_keys()
            )
        if epoch is None:
            value["created"] = await assemble.when(self.builder.cache, value, fresh=request.no_cache)
            for entry in value["history"]:
                if not entry.get("created"):
                    entry["created"] = value["created"]
        if assemble.is_known(root):
            built = assemble.assemble(stores, value, root, request.annotations)
        else:
            built = await asyncio.to_thread(assemble.assemble, stores, value, root, request.annotations)
        step = Step(
            Vertex(ImageSource("", built.id), (), "exporting to image" if request.store else "exporting"), self.sink
        )
        step.start()
        try:
            if request.store:
                await assemble.store(stores, self.held, built, self.names, anew=bool(request.annotations))
                step.output(1, f"writing image {built.id} done\n".encode())
                for name in self.names:
                    step.output(1, f"naming to {name} done\n".encode())
            if self.finished is not None:
                await self.finished(built)
        except WherryError as error:
            step.complete(error=error.message)
            raise
        step.complete()
        return built

    async def _debug(self, error: StepFailed) -> None:
        """Let somebody look into the step that failed, where everything is still mounted; then it goes."""
        failed, self._work.failed = self._work.failed, None
        if failed is None:
            return
        task, held = failed
        async with held:
            # nothing else of this build goes on, or takes another's turn
            await self.solver.close()
            if self.debugger is not None:
                self._show_place(error)
                await self.debugger(task.shell(), error)

    async def cache_layers(self, everything: bool) -> tuple[list[LayerRecord], Json]:
        """What a cache of this build is made of: layers, all of them here, and what its steps are called by.

        Args:
            everything: of all stages, not only what the target is made of. A layer that an imported cache offers, that
                nothing needed, and that does not come now is left out.
        """
        solver = self.solver
        target = await solver.root(self.converted.target.root)
        blobs = {layer.blob for layer in target.layers}
        wanted: dict[str, LayerRecord] = {}
        for record in solver.records.values():
            if record.layer is not None and (everything or record.layer.blob in blobs):
                try:
                    await self.offers.bring(record.layer)
                except CacheBroken as error:
                    self.sink({"warnings": [{"short": f"a step is left out of the cache: {error.message}"}]})
                    continue
                wanted.setdefault(record.layer.blob, record.layer)
        layers = list(wanted.values())
        return layers, cacheimages.described(layers, None if everything else target, solver.records, solver.all_keys())

    async def _squashed(self, root: Root) -> Root:
        """One layer of what was built on the base; history tells of it as Docker's does."""
        target = self.converted.target
        base = (target.base.get("rootfs") or {}).get("diff_ids") or []
        squashed = await self._work.squash(root, len(base))
        if squashed is root:
            return root
        known = len(target.base.get("history") or [])
        target.history = [
            entry if index < known else {key: value for key, value in entry.items() if key != "vertex"} | _NO_LAYER
            for index, entry in enumerate(target.history)
        ]
        target.history.append({"comment": f"merge {root.chain} to {base[-1] if base else 'scratch'}"})
        return squashed

    def state_document(self, state: Any, root: Any, created: str) -> dict[str, Any]:
        """The configuration document of a stage that has come to `root`."""
        return assemble.document(
            state,
            root,
            self.solver.records,
            platform=self._platform,
            created=created,
            epoch=self.request.settings.newest is not None,
        )

    async def _warn(self) -> None:
        """Tell what lint finds in the stages that are built; it may ask to fail the build."""
        request, around = self.request, self.around
        images = {name: base_image(image) for name, image in around.images.items()}
        images |= {name: base_image(found) for name, found in around.contexts.items() if isinstance(found, Image)}
        surroundings = LintSurroundings(
            build_args=request.build_args,
            target=request.target,
            target_platform=self._platform or platforms.host(),
            contexts=list(request.contexts),
            ignore=Matcher(request.ignore) if request.ignore else None,
            images=images,
            all_stages=False,
        )
        report = await aside(lint, self._source, surroundings, request.path)
        warnings = report.warnings()
        for first in range(0, len(warnings), 200):
            self.sink({"warnings": warnings[first : first + 200]})
            await asyncio.sleep(0)
        failure = report.failure()
        if failure is not None:
            raise failure

    # -- what comes before the work

    def _read(self) -> Document:
        request = self.request
        data = request.dockerfile
        if data is None:
            if self.context is None:
                raise InvalidArgument("the build has neither a context nor a Dockerfile")
            try:
                data = self.context.read(request.path, DOCKERFILE_LIMIT)
            except NotFound:
                raise NotFound(f"Cannot locate specified Dockerfile: {request.path}", path=request.path) from None
        if not data.strip():
            name = f" ({request.path})" if request.style == "classic" else ""
            raise DockerfileError(f"the Dockerfile{name} cannot be empty")
        self._source = data
        try:
            return parse(data, request.path)
        except DockerfileError as error:
            if request.style == "classic":
                raise DockerfileError(f"failed to parse Dockerfile: {error.message}", error.location) from None
            raise

    async def _plan(self) -> tuple[Globals, Plan]:
        request = self.request
        program = await aside(parse_stages, self.document)
        here = platforms.host()
        shared = Globals(
            build_args=request.build_args,
            build_platform=here,
            target_platform=self._platform or here,
            target=request.target,
            escape=self.document.escape,
        )
        await aside(shared.declare, program.meta_args)
        self._epoch(shared)
        images: dict[str, Image] = {}
        contexts: dict[str, Image | Vertex] = {}
        triggers: dict[int, list[str]] = {}
        while True:
            found = await aside(
                plan, program.stages, shared, target=request.target, contexts=request.contexts, triggers=triggers
            )
            await self._look_up(found, images, contexts)
            known = dict(triggers)
            for index in found.needed:
                base = found.stages[index].base
                image = images.get(base.name) if base.kind == "image" else contexts.get(base.name)
                if base.kind in ("image", "context") and isinstance(image, Image) and index not in known:
                    known[index] = list(image.config.config.on_build or [])
            if known == triggers:
                break
            triggers = known
        self.around = Surroundings(
            images=images,
            contexts=contexts,
            patterns=rules,
            style=request.style,
            context=Vertex(ContextSource(), (), "[internal] load build context"),
            labels=request.labels,
        )
        return shared, found

    def _epoch(self, shared: Globals) -> None:
        text = self.request.build_args.get(EPOCH_ARG) or shared.values.get(EPOCH_ARG)
        if text and self.request.settings.newest is None:
            if not text.isdigit():
                raise InvalidArgument(f"invalid {EPOCH_ARG}: {text}")
            self.request.settings.newest = int(text) * 1_000_000_000

    async def _look_up(self, found: Plan, images: dict[str, Image], contexts: "dict[str, Image | Vertex]") -> None:
        """Find the images and contexts that stages use, several at once."""
        platform_of = {stage.base.name: str(stage.platform) for stage in found.stages if stage.platform is not None}
        missing = [name for name in found.images() if name not in images]
        results = await asyncio.gather(*(self._image(name, platform_of.get(name, "")) for name in missing))
        images.update(zip(missing, results, strict=True))
        for name in found.contexts():
            if name in contexts:
                continue
            given = self.request.contexts[name]
            if isinstance(given, Tree):
                contexts[name] = Vertex(ContextSource(name), (), f"[context {name}] load from client")
            elif given.startswith("docker-image://"):
                contexts[name] = await self._image(given.removeprefix("docker-image://"), platform_of.get(name, ""))
            else:
                contexts[name] = self._remote(name, given)

    def _remote(self, name: str, address: str) -> Vertex:
        if is_git(address):
            return Vertex(git_source(address), (), f"[context {name}] {address}")
        if is_http(address):
            return Vertex(http_source(address), (), f"[context {name}] {address}")
        raise InvalidArgument(f"unsupported context source {address!r} for {name}")

    async def _image(self, name: str, platform: str) -> Image:
        vertex = Vertex(ContextSource(f"image:{name}"), (), f"[internal] load metadata for {shown(name)}")
        step = Step(vertex, self.sink)
        step.start()

        def tell(line: dict[str, Any]) -> None:
            detail = line.get("progressDetail") or {}
            if line.get("id") and detail.get("total"):
                step.status(str(line["id"]), int(detail.get("current") or 0), int(detail["total"]))

        try:
            image = await self._find_image(name, platform or self.request.platform, self.request.pull, tell)
        except WherryError as error:
            step.complete(error=error.message)
            raise
        self.held.image(image.record)
        step.complete()
        return image

    def _executor(self) -> Executor:
        request, builder = self.request, self.builder
        mounts = Mounts(
            f"{builder.directory}/mounts",
            builder.locks,
            secrets=request.secrets,
            agents=request.agents,
            run_worker=builder.run_worker,
        )
        contexts = {name: given for name, given in request.contexts.items() if isinstance(given, Tree)}
        if self.context is not None:
            contexts[""] = self.context
        return Executor(
            builder.stores,
            self.held,
            run_worker=builder.run_worker,
            run_task=builder.run_task,
            mounts=mounts,
            contexts=contexts,
            fetch=self._fetch,
            settings=request.settings,
            offers=self.offers,
        )

    def _fresh(self, vertex: Vertex) -> bool:
        request = self.request
        return request.no_cache or vertex.stage in request.no_cache_filter

    def _show_place(self, error: WherryError) -> None:
        """Say where in the Dockerfile it went wrong."""
        location = None
        if isinstance(error, DockerfileError):
            location = error.location
        elif hasattr(self, "converted"):
            location = self.converted.locations.get(str(error.facts.get("vertex")))
        source = self._source.decode("utf-8", "surrogateescape")
        if location is not None and source:
            error.facts["excerpt"] = excerpt(source, self.request.path, [location])


async def _settled(work: "asyncio.Future[Any]") -> None:
    work.cancel()
    await asyncio.wait([work])
    if not work.cancelled():
        work.exception()


def shown(name: str) -> str:
    """An image's name in full."""
    try:
        return str(parse_normalized(name).with_default_tag())
    except WherryError:
        return name
