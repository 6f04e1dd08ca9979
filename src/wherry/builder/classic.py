"""The classic builder's account of a build: every instruction in the file's order, whatever order they were done in."""

import asyncio
from collections.abc import Callable
from typing import Any

from wherry.builder import assemble
from wherry.builder.build import Build
from wherry.builder.failure import SourceMissing, StepFailed
from wherry.builder.graph.convert import Instruction
from wherry.builder.progress import Step
from wherry.errors import WherryError

Say = Callable[[str], None]
_KEPT = 4096  # pieces of output of a step whose turn has not come


class Narrator:
    """Tells of one build.

    Args:
        say: takes text, to be shown as it is.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._steps: dict[str, Kept] = {}

    async def __call__(self, build: Build) -> None:
        """Tell until the last step is done; an error of a step is told by whoever started the build.

        What the last instruction came to is the image: `finish` tells it.
        """
        instructions = build.converted.instructions
        for one in instructions:
            if one.vertex is not None and one.vertex.digest not in self._steps:
                self._steps[one.vertex.digest] = Kept(build.solver.step(one.vertex))
        seen: set[str] = set()
        known = False  # all of the stage so far
        steps = sum(not one.trigger for one in instructions)
        number = triggers = 0
        for index, one in enumerate(instructions):
            if not one.trigger:
                number += 1
                self._say(f"Step {number}/{steps} : {one.text}\n")
            again = one.vertex is not None and one.vertex.digest in seen
            if one.vertex is not None:
                seen.add(one.vertex.digest)
            await self._tell(build, one, again)
            if _is_from(one):
                known = True
            elif one.vertex is not None:
                known = known and self._steps[one.vertex.digest].step.cached
            elif known and await self._configured(build, instructions[index + 1 :]):
                self._say(" ---> Using cache\n")
            triggers = one.triggers or max(triggers - 1, 0)
            if one.triggers:
                self._say(f"# Executing {triggers} build trigger{'s' if triggers > 1 else ''}\n")
            if not triggers and one is not instructions[-1]:
                self._say(f" ---> {await self._id(build, one)}\n")

    async def finish(self, build: Build, id_: str) -> None:
        """Tell what it came to.

        Args:
            id_: of the image; of a squashed one, the last instruction's is another.
        """
        last = build.converted.instructions[-1]
        shown = await self._id(build, last)
        if shown and not build.request.squash:
            shown = id_.partition(":")[2][:12]
        self._say(f" ---> {shown}\n")
        unused = build.shared.unused_build_args()
        if unused:
            self._say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")

    async def _tell(self, build: Build, one: Instruction, again: bool) -> None:
        if one.vertex is not None:
            kept = self._steps[one.vertex.digest]
            work = build.solver.begin(one.vertex)
            if not again:
                kept.replay(self._say, one.runs)
            if not work.done():
                await asyncio.wait([work])
            if one.runs and kept.step.task:
                kept.begin()
            if work.cancelled() or work.exception() is not None:
                # the build ends with it; nothing more is to be told
                await asyncio.shield(work)
            if kept.step.cached and one.runs | (not again):
                self._say(" ---> Using cache\n" if _is_step(one) else "")
            elif one.runs and kept.begun:
                self._say(f" ---> Removed intermediate container {kept.step.task[:12]}\n")

    async def _configured(self, build: Build, rest: list[Instruction]) -> bool:
        """Whether an instruction that only changes the configuration was seen before: what follows it tells."""
        for one in rest:
            if _is_from(one):
                return True  # its stage gives files alone
            if one.vertex is not None:
                step = self._steps[one.vertex.digest].step
                decided: asyncio.Future[Any] = asyncio.ensure_future(step.decided.wait())
                work: asyncio.Future[Any] = build.solver.begin(one.vertex)
                await asyncio.wait([work, decided], return_when=asyncio.FIRST_COMPLETED)
                decided.cancel()
                return step.cached
        request, target = build.request, build.converted.target
        if request.no_cache or request.squash or request.inline_cache:
            return False
        value = build.state_document(target, await build.solver.root(target.root), "")
        return assemble.was_made(build.builder.cache, value)

    @staticmethod
    async def _id(build: Build, one: Instruction) -> str:
        if one.root is None and one.vertex is None and not one.config.keys() - {"Env"}:
            return ""  # FROM scratch
        root = await build.solver.root(one.root)
        return assemble.short({"config": one.config, "layers": root.diff_ids})


class Kept:
    """A step whose output waits until its turn has come."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.begun = False
        self._kept: list[tuple[int, bytes]] = []
        self._say: Say | None = None
        self._runs = False
        step.listener = self._take

    def replay(self, say: Say, runs: bool) -> None:
        """Its turn has come: what it said so far, and from now on at once."""
        self._say, self._runs = say, runs
        kept, self._kept = self._kept, []
        for stream, data in kept:
            self._take(stream, data)
        if self.step.task:
            self.begin()

    def begin(self) -> None:
        """Say that it runs, once."""
        if not self.begun and self._runs and self._say is not None:
            self.begun = True
            self._say(f" ---> Running in {self.step.task[:12]}\n")

    def _take(self, stream: int, data: bytes) -> None:
        if self._say is None:
            if len(self._kept) < _KEPT:
                self._kept.append((stream, data))
            return
        self.begin()
        text = data.decode("utf-8", "replace")
        if text:
            self._say(f"\x1b[91m{text}\x1b[0m" if stream == 2 else text)


def _is_from(one: Instruction) -> bool:
    return not one.trigger and one.text[:5].upper().startswith("FROM")


def _is_step(one: Instruction) -> bool:
    return one.vertex is not None and bool(one.vertex.inputs)


def failure(error: WherryError) -> str:
    """The words in which the classic builder says what a step failed of."""
    if isinstance(error, StepFailed):
        return error.classic
    return error.classic if isinstance(error, SourceMissing) else error.message


def result(say: Say, id_: str, names: list[Any]) -> None:
    """The last lines."""
    say(f"Successfully built {id_.partition(':')[2][:12]}\n")
    for name in names:
        say(f"Successfully tagged {name.familiar()}\n")
