"""What of a graph is needed, what of that is known, and doing the rest: independent vertices at once, each once.

Keys are content. A vertex's inputs are solved first (a known one costs a look into the cache), so that what a step
stands on is a chain of digests and not the way by which it was made: a step that gives the same again, or two
Dockerfiles that come to the same, lead to the same keys.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from wherry.builder.cache.offers import Offers
from wherry.builder.cache.store import Cache, Record
from wherry.builder.contexts.context import Tree
from wherry.builder.contexts.root import EMPTY_ROOT, Result, Root
from wherry.builder.failure import SourceMissing
from wherry.builder.graph.operations import (
    ContextSource,
    Copy,
    Exec,
    Files,
    GitSource,
    HttpSource,
    ImageSource,
    Operation,
    Vertex,
    definition,
    walk,
)
from wherry.builder.progress import Sink, Step
from wherry.errors import NotFound, WherryError
from wherry.snapshots.selecting import inside

_RECALL_SECONDS = 0.02
AT_ONCE = max(2, os.cpu_count() or 1)


class Executor(Protocol):
    """Does what is not known; see `executor.py`."""

    async def image(self, op: ImageSource, step: Step) -> Root: ...
    async def fetch(self, op: HttpSource | GitSource, step: Step) -> Tree: ...
    async def context(self, op: ContextSource, step: Step) -> Tree: ...
    async def fingerprint(self, root: Root, questions: "list[tuple[tuple[str, ...], Copy]]") -> list[str]: ...
    def here(self, op: Operation, step: Step) -> Result | None: ...
    async def execute(self, op: Exec, inputs: list[Result | None], step: Step) -> Record: ...
    async def change(self, op: Files, inputs: list[Result | None], step: Step) -> Record: ...
    async def stack(self, below: Root, record: Record) -> Root: ...
    def stacked(self, below: Root, record: Record) -> Root | None: ...
    def settled(self, record: Record) -> Record | None: ...


class Solver:
    """One build's way through a graph.

    Args:
        executor: does the work.
        cache: what is known.
        sink: gets the progress.
        fresh: whether a vertex must be done although it is known (`--no-cache`, `--no-cache-filter`).
        salt: what else counts for every step (`SOURCE_DATE_EPOCH`).
        gate: how many steps run at once, in the whole engine.
        offers: what imported caches know.
    """

    def __init__(
        self,
        executor: Executor,
        cache: Cache,
        sink: Sink,
        *,
        fresh: Callable[[Vertex], bool] = lambda _: False,
        salt: str = "",
        gate: asyncio.Semaphore | None = None,
        offers: Offers | None = None,
    ) -> None:
        self._executor = executor
        self._cache = cache
        self._sink = sink
        self._fresh = fresh
        self._salt = salt
        self._gate = gate or asyncio.Semaphore(AT_ONCE)
        self._offers = offers
        self._offered: set[str] = set()
        self._tasks: dict[str, asyncio.Future[Result]] = {}
        self._steps: dict[str, Step] = {}
        self.records: dict[str, Record] = {}
        """What the steps made, by digest of the vertex."""
        self.keys: dict[str, list[str]] = {}
        """Cache keys by which the steps were looked for, by digest of the vertex."""

    def step(self, vertex: Vertex) -> Step:
        """The vertex's progress."""
        found = self._steps.get(vertex.digest)
        if found is None:
            found = self._steps[vertex.digest] = Step(vertex, self._sink)
        return found

    async def root(self, vertex: Vertex | None) -> Root:
        """Solve a vertex that is a root; None is the empty one."""
        if vertex is None:
            return EMPTY_ROOT
        found = await self.solve(vertex)
        if isinstance(found, Tree):
            raise TypeError(f"{vertex} is no root")
        return found

    def recall(self, ends: list[Vertex | None]) -> None:
        """Settle what is known and stands on what is known, without a task or a turn of the loop for each."""
        until = time.monotonic() + _RECALL_SECONDS
        for vertex in walk(ends):
            if time.monotonic() > until:
                return  # the rest is settled a turn of the loop for each
            if vertex.digest not in self._tasks and (result := self._known(vertex)) is not None:
                done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
                done.set_result(result)
                self._tasks[vertex.digest] = done

    def _known(self, vertex: Vertex) -> Result | None:
        """What a vertex comes to, if no work and no waiting is needed to say so. Errors are found by `_solve`."""
        inputs: list[Result | None] = []
        for one in vertex.inputs:
            before = self._tasks.get(one.digest) if one is not None else None
            if before is None and one is not None:
                return None
            inputs.append(None if before is None else before.result())
        op, step = vertex.op, self.step(vertex)
        if not isinstance(op, Exec | Files):
            return self._executor.here(op, step)
        base = inputs[0] if inputs and isinstance(inputs[0], Root) else EMPTY_ROOT
        if self._fresh(vertex):
            return None
        try:
            key = self._key(op, EMPTY_ROOT if isinstance(op, Files) and op.linked else base, inputs)
        except WherryError:
            return None
        record = self._cache.find(key)
        root = None if record is None else self._executor.stacked(base, record)
        if record is None or root is None:
            return None
        self.keys[vertex.digest] = [key]
        self.records[vertex.digest] = record
        self._cache.touch([key])
        step.complete(cached=True)
        return root

    def begin(self, vertex: Vertex) -> "asyncio.Future[Result]":
        """Begin with a vertex, unless that was done, and return its task."""
        task = self._tasks.get(vertex.digest)
        if task is None:
            task = self._tasks[vertex.digest] = asyncio.ensure_future(self._solve(vertex))
            # whoever waits gets the error; a stage that nobody waits for any more is no reason to complain
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def solve(self, vertex: Vertex) -> Result:
        """Solve a vertex and all that it stands on.

        Raises:
            WherryError: what the first failing step says.
        """
        return await asyncio.shield(self.begin(vertex))

    def result(self, vertex: Vertex) -> Result:
        """What a vertex, which was solved, has come to."""
        return self._tasks[vertex.digest].result()

    async def close(self) -> None:
        """End what still runs."""
        running = [task for task in self._tasks.values() if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _solve(self, vertex: Vertex) -> Result:
        step = self.step(vertex)
        inputs = await self._inputs(vertex)
        op = vertex.op
        try:
            if isinstance(op, ImageSource):
                return await self._executor.image(op, step)
            if isinstance(op, ContextSource):
                return await self._executor.context(op, step)
            if isinstance(op, HttpSource | GitSource):
                return await self._executor.fetch(op, step)
            return await self._layer(vertex, op, inputs, step)
        except WherryError as error:
            step.complete(error=error.message)
            error.facts.setdefault("vertex", vertex.digest)
            raise
        except asyncio.CancelledError:
            step.complete(error="context canceled")
            raise

    async def _inputs(self, vertex: Vertex) -> list[Result | None]:
        wanted = [self.begin(one) for one in vertex.inputs if one is not None]
        if not all(task.done() for task in wanted):
            await asyncio.wait(wanted, return_when=asyncio.FIRST_EXCEPTION)
        for task in wanted:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        results = iter(wanted)
        return [None if one is None else next(results).result() for one in vertex.inputs]

    async def _layer(self, vertex: Vertex, op: Exec | Files, inputs: list[Result | None], step: Step) -> Root:
        below = inputs[0] if inputs else None
        base = below if isinstance(below, Root) else EMPTY_ROOT
        linked = isinstance(op, Files) and op.linked
        fresh = self._fresh(vertex)
        try:
            await _look(op, inputs)
            keys = [self._key(op, EMPTY_ROOT if linked else base, inputs)]
            record = None if fresh else self._find(keys[0], base)
            slow = ""
            if record is None and isinstance(op, Files):
                slow = await self._content_key(op, EMPTY_ROOT if linked else base, inputs)
        except NotFound as error:
            raise _missing(op, inputs, error) from None
        if slow:
            keys.append(slow)
            record = None if fresh else self._find(slow, base)
        cached = record is not None
        if record is None:
            async with self._gate:
                step.start()
                if isinstance(op, Exec):
                    record = await self._executor.execute(op, inputs, step)
                else:
                    record = await self._executor.change(op, inputs, step)
        self.keys[vertex.digest] = keys
        self.records[vertex.digest] = record
        if record.id in self._offered:
            pass  # it answers for no other build: `keep`
        elif not cached or len(keys) > 1:
            await self._cache.put(keys, record)
        else:
            self._cache.touch(keys)
        root = await self._executor.stack(base, record)
        step.complete(cached=cached)
        return root

    def _find(self, key: str, base: Root) -> Record | None:
        record = self._cache.find(key)
        if record is None and self._offers is not None:
            record = self._offers.find(key, base)
            if record is not None:
                self._offered.add(record.id)
        return record

    async def keep(self) -> None:
        """Hold the layers that came from imported caches, for the next build that names these caches."""
        for record in self.records.values():
            if record.id in self._offered and (settled := self._executor.settled(record)) is not None:
                await self._cache.hold(settled)

    def all_keys(self) -> dict[str, list[str]]:
        """Every key that the steps are known by, also those that this build did not need, by digest of the vertex.

        All of them were computed here. What else an imported cache calls its steps by is not passed on.
        """
        known = self._cache.keys_of({record.id for record in self.records.values()})
        return {
            digest: list(dict.fromkeys([*self.keys[digest], *known.get(record.id, ())]))
            for digest, record in self.records.items()
        }

    def _key(self, op: Operation, base: Root, inputs: list[Result | None]) -> str:
        """What the step does, what it stands on, and what it takes: layers by their chain, files by their content."""
        state = hashlib.sha256(f"{self._salt}\0{base.chain}\0".encode())
        state.update(definition(op))
        for index, result in enumerate(inputs[1:], 1):
            for question in _taken(op, index, result):
                state.update(f"\0{index}:{question}".encode())
        return f"sha256:{state.hexdigest()}"

    async def _content_key(self, op: Files, base: Root, inputs: list[Result | None]) -> str:
        """The same with the content of files that come from layers: other layers may hold the same files."""
        copies = [action for action in op.actions if isinstance(action, Copy)]
        wanted = [action for action in copies if isinstance(inputs[action.input], Root)]
        if not wanted:
            return ""
        state = hashlib.sha256(f"content\0{self._salt}\0{base.chain}\0".encode())
        state.update(definition(op))
        for action in copies:
            source = inputs[action.input]
            if isinstance(source, Root):
                digests = await self._executor.fingerprint(source, [(action.sources, action)])
                state.update(f"\0{digests[0]}".encode())
            elif source is not None:
                state.update(f"\0{source.digest(action.sources, action.exclude)}".encode())
        return f"sha256:{state.hexdigest()}"


def _missing(op: Exec | Files, inputs: list[Result | None], error: NotFound) -> NotFound:
    """The error of a source that is not there, with what it was named for."""
    path = inside(str(error.facts.get("path", "")))
    for action in op.actions if isinstance(op, Files) else ():
        named = [one for one in action.sources if inside(one) == path] if isinstance(action, Copy) else []
        if isinstance(action, Copy) and named:
            command = "ADD" if action.unpack else "COPY"
            return SourceMissing(named[0], command, in_context=isinstance(inputs[action.input], Tree))
    return error


def _taken(op: Operation, index: int, result: Result | None) -> Iterable[str]:
    """What an operation takes of one of its inputs, as text for a key."""
    if result is None:
        yield "nothing"
    elif isinstance(result, Root):
        yield result.chain
    else:
        for sources, exclude, exact in _asked(op, index):
            yield result.digest(sources, exclude, exact=exact)


def _asked(op: Operation, index: int) -> Iterable[tuple[tuple[str, ...], tuple[tuple[str, bool], ...], bool]]:
    """Which files an operation takes of one of its inputs: sources, what is left out, whether sources are paths."""
    if isinstance(op, Files):
        for action in op.actions:
            if isinstance(action, Copy) and action.input == index:
                yield action.sources, action.exclude, False
    elif isinstance(op, Exec):
        for mount in op.mounts:
            if mount.input == index:
                yield (mount.source or "/",), (), True


async def _look(op: Operation, inputs: list[Result | None]) -> None:
    """Have the digests of what an operation takes worked out before its key asks for them."""
    for index, result in enumerate(inputs):
        if isinstance(result, Tree):
            for sources, exclude, exact in _asked(op, index):
                await result.digested(sources, exclude, exact=exact)
