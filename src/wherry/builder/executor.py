"""Carries out what is not known: runs programs, copies files, fetches; each result is a layer, durable before it counts

A step's changes are written into a staged layer (`Overlay.stage`), which is the upper directory of the step's root;
when the step is done that directory itself becomes the snapshot. Killed at any point, nothing is visible of it: a
staged layer goes at the next start, a program ends with its monitor, mounts are in nobody's namespace but the step's.
"""

import asyncio
import os
import secrets
import shutil
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from wherry.builder.cache.held import Held
from wherry.builder.cache.offers import CacheBroken, Offers
from wherry.builder.cache.store import Record
from wherry.builder.contexts.context import Tree
from wherry.builder.contexts.root import EMPTY_ROOT, Result, Root
from wherry.builder.failure import StepFailed
from wherry.builder.graph.operations import (
    ContextSource,
    Copy,
    Exec,
    Files,
    GitSource,
    HttpSource,
    ImageSource,
    MakeFile,
    Operation,
)
from wherry.builder.mounts import Mounts
from wherry.builder.ports import RunTask, RunWorker, Task
from wherry.builder.progress import Step
from wherry.errors import DigestMismatch, HostileInput, NotFound, StoreCorrupt, WherryError
from wherry.images import layers
from wherry.images.load import discard
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.snapshots.remove import remove_tree
from wherry.store.images import LayerRecord

EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The archive without entries."""
# what the runtime makes in every root to mount on
_STUBS = (
    "proc",
    "sys",
    "sys/fs/cgroup",
    "dev",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev/pipes",
    "dev/console",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
)

Fetch = Callable[[HttpSource | GitSource, Step], Awaitable[Tree]]


class Settings:
    """What one build asks of its steps beside what the graph says.

    Args:
        network: what `default` means.
        hosts: further `name:address`.
        limits: Docker's HostConfig keys.
        newest: nanoseconds; later times of files become this one.
        may: entitlements that the caller gave (`network.host`, `security.insecure`).
        debug: hold what a failed step has left.
        strict: a copy whose wildcards fit nothing at all fails, as with the classic builder.
    """

    def __init__(
        self,
        *,
        network: str = "default",
        hosts: list[str] | None = None,
        limits: dict[str, Any] | None = None,
        newest: int | None = None,
        may: frozenset[str] = frozenset(),
        debug: bool = False,
        strict: bool = False,
    ) -> None:
        self.network = network
        self.hosts = list(hosts or [])
        self.limits = dict(limits or {})
        self.newest = newest
        self.may = may
        self.debug = debug
        self.strict = strict


class Executor:
    """Does the work of one build.

    Args:
        stores: images, layers, blobs.
        held: what this build holds until it is over.
        run_worker, run_task: the engine's.
        mounts: caches, secrets, agents.
        contexts: trees that the caller gave, by name.
        fetch: gets downloads and checkouts.
        settings: see there.
        offers: where layers come from that are not here yet.
    """

    def __init__(
        self,
        stores: Stores,
        held: Held,
        *,
        run_worker: RunWorker,
        run_task: RunTask,
        mounts: Mounts,
        contexts: dict[str, Tree],
        fetch: Fetch,
        settings: Settings,
        offers: Offers,
    ) -> None:
        self._stores = stores
        self._offers = offers
        self._coming: dict[str, asyncio.Lock] = {}
        self._held = held
        self._run_worker = run_worker
        self._run_task = run_task
        self._mounts = mounts
        self._contexts = contexts
        self._fetch = fetch
        self._settings = settings
        self.failed: tuple[Task, AsyncExitStack] | None = None
        """The step that failed, with what holds its root and mounts: only where `Settings.debug` asks for it."""

    # -- sources

    async def image(self, op: ImageSource, step: Step) -> Root:
        """The layers of an image, there or made again from their blobs."""
        image = self._stores.image(op.id)
        self._held.image(image.record)
        step.start()
        await layers.ensure(self._stores, image)
        step.complete(cached=True)
        return Root(image.record.layers)

    def here(self, op: Operation, step: Step) -> Result | None:
        """A source for which nothing has to be done or waited for, or None."""
        if isinstance(op, ContextSource) and not op.name:
            return self._contexts.get("")
        if not isinstance(op, ImageSource):
            return None
        image = self._stores.image(op.id)
        if not all(self._stores.overlay.exists(chain) for chain in image.chain_ids):
            return None
        self._held.image(image.record)
        step.start()
        step.complete(cached=True)
        return Root(image.record.layers)

    async def context(self, op: ContextSource, step: Step) -> Tree:
        """A tree that the caller gave."""
        tree = self._contexts.get(op.name)
        if tree is None:
            raise NotFound(f"no build context {op.name!r} was given", context=op.name)
        if op.name:  # the build context itself was told of by whoever sent it
            step.start()
            step.complete()
        return tree

    async def fetch(self, op: HttpSource | GitSource, step: Step) -> Tree:
        """A download or a checkout."""
        step.start()
        tree = await self._fetch(op, step)
        step.complete()
        return tree

    async def fingerprint(self, root: Root, questions: "list[tuple[tuple[str, ...], Copy]]") -> list[str]:
        """What sources of a root hash to."""
        root = await self.ready(root)
        async with self._place() as place:
            asked = [[list(sources), list(action.exclude)] for sources, action in questions]
            found = await self._run_worker(
                "fingerprint", {"root": self._read_only(root), "at": place("root"), "questions": asked}, {}
            )
        digests_found: list[str] = found["digests"]
        return digests_found

    # -- steps

    async def execute(self, op: Exec, inputs: list[Result | None], step: Step) -> Record:
        """Run a program."""
        inputs = await self._all_ready(inputs)
        base = inputs[0] if isinstance(inputs[0], Root) else EMPTY_ROOT
        settings = self._settings
        for name, wanted in (("network.host", op.network == "host"), ("security.insecure", op.security == "insecure")):
            if wanted and name not in settings.may:
                raise WherryError(f"{name} is not allowed: the build was not started with --allow {name}")
        async with AsyncExitStack() as kept:
            staging, work = await kept.enter_async_context(self._staged())
            place = await kept.enter_async_context(self._place())
            async with AsyncExitStack() as stack:
                mounted = await stack.enter_async_context(self._mounts.ready(op, inputs, place, self._stores))
                task = Task(
                    id=secrets.token_hex(32),
                    args=list(op.args),
                    env=[*op.env, *mounted.env],
                    cwd=op.cwd,
                    user=op.user,
                    root=self._stores.overlay.mounts(base.chain_ids, staging, work),
                    mounts=mounted.specs,
                    data=mounted.data,
                    network=settings.network if op.network == "default" else op.network,
                    hosts=[*settings.hosts, *op.hosts],
                    insecure=op.security == "insecure",
                    limits=settings.limits,
                )
                step.task = task.id
                code = await self._run_task(task, step.output)
                if code:
                    if settings.debug and self.failed is None:
                        kept.push_async_exit(stack.pop_all())
                        self.failed = task, kept.pop_all()
                    raise StepFailed(op.args, code)
            # a secret's place must not stay behind, nor any other's
            stubs = [*_STUBS, *(mount.target for mount in op.mounts)]
            return await self._seal(staging, work, base, stubs, step.vertex.name)

    async def change(self, op: Files, inputs: list[Result | None], step: Step) -> Record:
        """Copy and make files."""
        inputs = await self._all_ready(inputs)
        base = inputs[0] if isinstance(inputs[0], Root) and not op.linked else EMPTY_ROOT
        async with self._staged() as (staging, work), self._place() as place:
            args: dict[str, Any] = {
                "root": self._stores.overlay.mounts(base.chain_ids, staging, work)[0].to_json(),
                "at": place("root"),
                "sources": [],
                "actions": [_action(action, strict=self._settings.strict) for action in op.actions],
            }
            fds: dict[str, int] = {}
            try:
                for index, source in enumerate(inputs):
                    if index and isinstance(source, Root):
                        args["sources"].append({"mount": self._read_only(source), "at": place(f"source{index}")})
                    elif index and isinstance(source, Tree):
                        await source.ready()
                        fds[f"source:{index}"] = source.open()
                        args["sources"].append({"fd": f"source:{index}"})
                    else:
                        fds[f"source:{index}"] = os.open(place(f"none{index}"), os.O_RDONLY | os.O_DIRECTORY)
                        args["sources"].append({"fd": f"source:{index}"})
                await self._run_worker("files", args, fds)
            finally:
                for fd in fds.values():
                    os.close(fd)
            return await self._seal(staging, work, base, (), step.vertex.name)

    async def stack(self, below: Root, record: Record) -> Root:
        """Put a step's layer on a root. It may be elsewhere still, or known on another root only: see `ready`."""
        found = self.stacked(below, record)
        if found is not None:
            return found
        assert record.layer is not None
        root = below.on_top(record.layer)
        await self._come(record.layer, root.chain, below.chain or None)
        return root

    def stacked(self, below: Root, record: Record) -> Root | None:
        """The same, if no layer has to be made for it. What the root stands on is held in any case."""
        if record.layer is None:
            return below
        root = below.on_top(record.layer)
        self._held.snapshots([root.chain])
        self._held.blobs(record.layer.blob)
        return root if record.layer.unpacked < 0 or self._stores.overlay.exists(root.chain) else None

    async def ready(self, root: Root) -> Root:
        """Make every layer of a root be here, blob and snapshot; returns it with their sizes.

        Raises:
            CacheBroken: one that an imported cache offers does not come, or is another.
        """
        overlay = self._stores.overlay
        found = list(root.layers)
        for index, chain in enumerate(root.chain_ids):
            offered = found[index].unpacked < 0
            if offered or not overlay.exists(chain):
                await self._come(found[index], chain, root.chain_ids[index - 1] if index else None)
            if offered:
                found[index] = msgspec.structs.replace(found[index], unpacked=overlay.size(chain))
        return Root(found) if found != list(root.layers) else root

    async def _come(self, layer: LayerRecord, chain: str, parent: str | None) -> None:
        async with self._coming.setdefault(chain, asyncio.Lock()):
            if layer.unpacked < 0:
                await self._offers.bring(layer)
            if self._stores.overlay.exists(chain):
                return
            fd = self._stores.blobs.open(digests.parse(layer.blob))
            try:
                await layers.unpack_layer(self._stores, fd, chain, layer.diff_id, parent)
            except (DigestMismatch, HostileInput, StoreCorrupt) as error:
                if layer.unpacked >= 0:
                    raise
                self._held.drop(layer.blob)
                discard(self._stores, {layer.blob}, set())
                raise CacheBroken(error.message) from error
            finally:
                os.close(fd)

    async def _all_ready(self, inputs: list[Result | None]) -> list[Result | None]:
        return [await self.ready(one) if isinstance(one, Root) else one for one in inputs]

    def settled(self, record: Record) -> Record | None:
        """A record that an imported cache offered, once its layer is here."""
        layer = record.layer
        if layer is None:
            return record
        stores = self._stores
        if not stores.overlay.exists(record.chain) or not stores.blobs.exists(digests.parse(layer.blob)):
            return None
        return msgspec.structs.replace(
            record, layer=msgspec.structs.replace(layer, unpacked=stores.overlay.size(record.chain))
        )

    async def squash(self, root: Root, keep: int) -> Root:
        """Make one layer of all but the lowest `keep`."""
        root = await self.ready(root)
        below = Root(root.layers[:keep])
        if len(root.layers) - keep < 2:
            return root
        path = self._stores.overlay.path
        async with self._staged() as (staging, work):
            target = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                args = {
                    "layers": [path(chain) for chain in root.chain_ids[keep:]],
                    "below": [path(chain) for chain in reversed(below.chain_ids)],
                }
                await self._run_worker("squash", args, {"target": target})
            finally:
                os.close(target)
            record = await self._seal(staging, work, below, (), "squashed layers")
        return await self.stack(below, record)

    # -- parts

    async def _seal(self, staging: str, work: str, base: Root, stubs: Any, name: str) -> Record:
        """Make the staged directory a layer: blob and snapshot."""
        stores = self._stores
        await asyncio.to_thread(_remove_work, work)
        upper = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with stores.blobs.ingest() as ingest:
                blob = ingest.write_fd()
                try:
                    args = {
                        "stubs": list(stubs),
                        "lowers": [stores.overlay.path(chain) for chain in reversed(base.chain_ids)],
                        "newest": self._settings.newest,
                    }
                    written = await self._run_worker("seal", args, {"upper": upper, "blob": blob})
                finally:
                    os.close(blob)
                layer, chain = None, ""
                if written["diff_id"] != EMPTY_LAYER:
                    digest, diff_id = digests.parse(written["digest"]), written["diff_id"]
                    chain = documents.chain_ids([base.chain, diff_id])[-1] if base.chain else diff_id
                    layer = LayerRecord(str(digest), written["compressed_size"], diff_id, written["content_size"])
                    self._held.blobs(digest)
                    self._held.snapshots([chain])
                    await asyncio.to_thread(ingest.commit_written, digest, written["compressed_size"])
        finally:
            os.close(upper)
        if layer is not None:
            await asyncio.to_thread(
                stores.overlay.commit,
                staging,
                chain,
                layer.unpacked,
                diff_id=layer.diff_id,
                parent=base.chain or None,
            )
        now = time.time_ns()
        return Record(secrets.token_hex(13)[:25], layer, chain, base.chain, name, "regular", now, now)

    def _read_only(self, root: Root) -> dict[str, Any]:
        return self._stores.overlay.mounts(root.chain_ids, None, None)[0].to_json()

    @asynccontextmanager
    async def _staged(self) -> AsyncIterator[tuple[str, str]]:
        """A directory that takes what a step writes, and one for the kernel; gone afterwards, unless it was sealed."""
        staging = self._stores.overlay.stage()
        work = f"{os.path.dirname(staging)}/work"
        try:
            os.mkdir(work, 0o700)
            yield staging, work
        finally:
            if os.path.isdir(staging):
                await asyncio.to_thread(self._stores.overlay.abandon, staging)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Callable[[str], str]]:
        """Empty directories to mount on, in a namespace of the step's own; they are not mounted on in ours."""
        top = f"{self._stores.roots.run}/build/{secrets.token_hex(8)}"

        def make(name: str) -> str:
            path = f"{top}/{name}"
            os.makedirs(path, mode=0o700, exist_ok=True)
            return path

        try:
            yield make
        finally:
            shutil.rmtree(top, ignore_errors=True)


def _remove_work(work: str) -> None:
    fd = os.open(os.path.dirname(work), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(fd, os.path.basename(work))
    finally:
        os.close(fd)


def _action(action: Any, *, strict: bool) -> dict[str, Any]:
    if isinstance(action, Copy):
        return {
            "copy": list(action.sources),
            "source": action.input,
            "dest": action.dest,
            "owner": action.owner,
            "chmod": action.chmod,
            "exclude": [list(rule) for rule in action.exclude],
            "parents": action.parents,
            "unpack": action.unpack,
            "mine": action.context,
            "must": ("ADD" if action.unpack else "COPY") if strict else "",
        }
    if isinstance(action, MakeFile):
        data = b64encode(action.data.encode("utf-8", "surrogateescape")).decode()
        return {"mkfile": action.dest, "data": data, "owner": action.owner, "chmod": action.chmod}
    return {"mkdir": action.path, "owner": action.owner, "mode": action.mode}
