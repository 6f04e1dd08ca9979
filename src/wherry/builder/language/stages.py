"""Which stages a build needs, what each starts from and takes files from, and which images come from outside.

    FROM base            a stage before it, a named context, or an image
    COPY --from=x        any stage by name or number, a named context, or an image
    RUN --mount=from=x   any stage by name, a named context, or an image

ONBUILD triggers of a base image are instructions too: they are given in as `triggers` once the image is known.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.instructions import parse_trigger
from wherry.builder.language.shellwords import Lexer
from wherry.builder.language.suggestions import did_you_mean, suggest
from wherry.builder.language.variables import Globals
from wherry.errors import InvalidArgument
from wherry.oci import platform as platforms
from wherry.oci import reference as references
from wherry.oci.platform import Platform
from wherry.values.gotext import quote

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stage starts or where files come from.

    Args:
        kind: `stage` (of this Dockerfile), `image`, `context` (of `--build-context`) or `scratch`.
        name: the image or context; for a stage what was written.
        stage: the stage's number, -1 otherwise.
    """

    kind: Literal["stage", "image", "context", "scratch"]
    name: str = ""
    stage: int = -1


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage with everything about its surroundings known.

    Args:
        index: its number in the file.
        name: its name, or `stage-N`.
        stage: as parsed; `commands` begin with the base's triggers.
        base: what it starts from; a `context` where a named context replaces the whole stage.
        platform: of FROM's `--platform`, or None.
        sources: for each instruction that takes files from elsewhere (by its place in `commands`) the sources: one
            for COPY, one for each mount of RUN (None for a mount without `from`).
        replaced: a named context stands for the whole stage: its instructions are not run.
        triggers: so many of the first instructions are ONBUILD triggers of the base.
    """

    index: int
    name: str
    stage: c.Stage
    base: Source
    platform: Platform | None
    sources: Mapping[int, tuple[Source | None, ...]] = field(default_factory=dict)
    replaced: bool = False
    triggers: int = 0

    def needs(self) -> set[int]:
        """Numbers of the stages that this one uses."""
        used = {self.base.stage} if self.base.kind == "stage" else set()
        for sources in self.sources.values():
            used |= {source.stage for source in sources if source is not None and source.kind == "stage"}
        return used


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages, and those that are needed.

    Args:
        stages: all of them, in the file's order.
        target: the number of the one that is built.
        needed: numbers of the target and of all it uses, each after those it uses.
    """

    stages: tuple[PlannedStage, ...]
    target: int
    needed: tuple[int, ...]

    def images(self) -> list[str]:
        """The images that the needed stages start from or take files from, as written, each once."""
        return list(dict.fromkeys(source.name for source in self._used() if source.kind == "image"))

    def contexts(self) -> list[str]:
        """The named contexts that they use."""
        return list(dict.fromkeys(source.name for source in self._used() if source.kind == "context"))

    def _used(self) -> Iterable[Source]:
        for index in self.needed:
            planned = self.stages[index]
            yield planned.base
            if not planned.replaced:
                for sources in planned.sources.values():
                    yield from (source for source in sources if source is not None)


def plan(
    stages: Sequence[c.Stage],
    shared: Globals,
    *,
    target: str = "",
    contexts: Collection[str] = (),
    triggers: Mapping[int, Sequence[str]] | None = None,
) -> Plan:
    """Find out what a build needs.

    Args:
        stages: as parsed.
        shared: the global variables, their ARGs declared.
        target: `--target`, "" for the last stage.
        contexts: names of `--build-context`.
        triggers: ONBUILD expressions of the images that stages (by number) start from. Those of stages in this file
            are found here.

    Raises:
        DockerfileError: no such target or stage, a circle of stages, a base name that is empty or none, a platform
            that is none, a variable in `COPY --from`.
    """
    builder = _Planner(stages, shared, contexts, triggers or {})
    planned = builder.plan()
    _check_circles(planned)
    index = _target(planned, target)
    for stage in planned:
        _check_names(stage)
    needed = _closure(planned, index)
    for number in needed:
        _check_order(planned[number])
    return Plan(tuple(planned), index, tuple(needed))


def context_name(name: str) -> str:
    """How a named context is looked up: an image's familiar name without `latest`; other words in lower case."""
    try:
        return references.parse_normalized(name.lower()).familiar().removesuffix(":latest")
    except InvalidArgument:
        return name.lower()


class _Planner:
    def __init__(
        self,
        stages: Sequence[c.Stage],
        shared: Globals,
        contexts: Collection[str],
        triggers: Mapping[int, Sequence[str]],
    ) -> None:
        self.stages = stages
        self.shared = shared
        self.contexts = {context_name(name): name for name in contexts}
        self.triggers = triggers
        self.by_name: dict[str, int] = {}
        self.any_name = {stage.name: index for index, stage in enumerate(stages) if stage.name}

    def plan(self) -> list[PlannedStage]:
        out: list[PlannedStage] = []
        for index, stage in enumerate(self.stages):
            planned = self._base(index, stage)
            out.append(planned)
            if stage.name:
                self.by_name[stage.name] = index
        return [self._with_sources(self._with_triggers(planned, out)) for planned in out]

    def _base(self, index: int, stage: c.Stage) -> PlannedStage:
        name = stage.name or f"stage-{index}"
        base_name = self._expanded(stage.base_name, stage)
        if not base_name:
            raise DockerfileError(f"base name ({stage.base_name}) should not be blank", stage.location)
        platform = self._platform(stage) if stage.platform else None
        if stage.name and stage.name not in (SCRATCH, "context"):
            context = self.contexts.get(context_name(stage.name))
            if context is not None:
                source = Source("context", context)
                return PlannedStage(index, name, stage, source, platform, replaced=True)
        expanded = replace(stage, base_name=base_name)
        known = self.by_name.get(base_name)
        if known is not None:
            return PlannedStage(index, name, expanded, Source("stage", base_name, known), platform)
        return PlannedStage(index, name, expanded, self._outside(base_name), platform)

    def _expanded(self, word: str, stage: c.Stage) -> str:
        try:
            return self.shared.expand(word).text
        except InvalidArgument as error:
            raise DockerfileError(error.message, stage.location) from None

    def _platform(self, stage: c.Stage) -> Platform:
        try:
            text = self.shared.expand(stage.platform).text
        except InvalidArgument as error:
            raise DockerfileError(
                f"failed to process arguments for platform : {error.message}", stage.location
            ) from None
        known = tuple(self.shared.values)
        unset = next((n for n in sorted(self.shared.expand(stage.platform).unmatched) if suggest(n, known)), "")
        if not text:
            message = did_you_mean(f"empty platform value from expression {stage.platform}", unset, known)
            raise DockerfileError(message, stage.location)
        try:
            return platforms.parse(text)
        except InvalidArgument as error:
            message = f"failed to parse platform {stage.platform}: {did_you_mean(error.message, unset, known)}"
            raise DockerfileError(message, stage.location) from None

    def _outside(self, name: str) -> Source:
        if name == SCRATCH:
            return Source("scratch", name)
        context = self.contexts.get(context_name(name))
        if context is not None and context_name(name) != "context":
            return Source("context", context)
        return Source("image", name)

    def _with_triggers(self, planned: PlannedStage, before: Sequence[PlannedStage]) -> PlannedStage:
        expressions = list(self.triggers.get(planned.index, ()))
        if planned.base.kind == "stage":
            base = before[planned.base.stage].stage
            expressions += [command.expression for command in base.commands if isinstance(command, c.Onbuild)]
        if not expressions or planned.replaced:
            return planned
        first = tuple(parse_trigger(expression, planned.stage) for expression in expressions)
        stage = replace(planned.stage, commands=(*first, *planned.stage.commands))
        return replace(planned, stage=stage, triggers=len(first))

    def _with_sources(self, planned: PlannedStage) -> PlannedStage:
        if planned.replaced:
            return planned
        sources: dict[int, tuple[Source | None, ...]] = {}
        for position, command in enumerate(planned.stage.commands):
            if isinstance(command, c.Copy) and command.from_:
                sources[position] = (self._copy_source(command),)
            elif isinstance(command, c.Run) and command.mounts:
                sources[position] = tuple(self._named(mount.from_) if mount.from_ else None for mount in command.mounts)
        return replace(planned, sources=sources)

    def _copy_source(self, command: c.Copy) -> Source:
        try:
            plain = Lexer(self.shared.lexer.escape).process_word(command.from_, {})
        except InvalidArgument as error:
            raise DockerfileError(error.message, command.location) from None
        if plain != command.from_:
            raise DockerfileError(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
                "scope as a workaround",
                command.location,
            )
        digits = command.from_.removeprefix("-").removeprefix("+")
        if digits.isascii() and digits.isdigit():
            number = int(command.from_) if len(digits) < 10 else -1
            if not 0 <= number < len(self.stages):
                raise DockerfileError(f"invalid stage index {command.from_}", command.location)
            return Source("stage", command.from_, number)
        return self._named(command.from_)

    def _named(self, name: str) -> Source:
        index = self.any_name.get(name.lower())
        return Source("stage", name, index) if index is not None else self._outside(name)


def _target(planned: Sequence[PlannedStage], target: str) -> int:
    if not target:
        return len(planned) - 1
    for stage in reversed(planned):
        if stage.stage.name == target.lower():
            return stage.index
    names = [stage.name for stage in planned]
    raise DockerfileError(did_you_mean(f"target stage {quote(target)} could not be found", target, names))


def _closure(planned: Sequence[PlannedStage], target: int) -> list[int]:
    needed: set[int] = set()
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting += planned[index].needs()
    return sorted(needed)


def _check_names(stage: PlannedStage) -> None:
    """What is no stage and no context must be an image's name."""
    places = ((stage.stage.commands[position].location, sources) for position, sources in stage.sources.items())
    for location, sources in ((stage.stage.location, (stage.base,)), *places):
        for source in sources:
            if source is not None and source.kind == "image":
                try:
                    references.parse_normalized(source.name)
                except InvalidArgument as error:
                    message = f"failed to parse stage name {quote(source.name)}: {error.message}"
                    raise DockerfileError(message, location) from None


def _check_order(stage: PlannedStage) -> None:
    """A stage may take files only from stages above it."""
    for position, sources in stage.sources.items():
        command = stage.stage.commands[position]
        for source in sources:
            if source is None or source.kind != "stage" or source.stage < stage.index:
                continue
            if isinstance(command, c.Run):
                mounts = zip(command.mounts, sources, strict=True)
                written = next(mount.from_ for mount, found in mounts if found is source)
                raise DockerfileError(
                    f"cannot mount from stage {quote(written)}, stage needs to be defined before current command",
                    command.location,
                )
            raise DockerfileError(
                f"cannot copy from stage {quote(source.name)}, it needs to be defined before current stage "
                f"{quote(stage.name)}",
                command.location,
            )


def _check_circles(planned: Sequence[PlannedStage]) -> None:
    done: set[int] = set()
    for start in range(len(planned)):
        stack = [] if start in done else [(start, iter(sorted(planned[start].needs())))]
        on_path = {index for index, _ in stack}
        while stack:
            index, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                done.add(index)
                on_path.discard(index)
            elif following in on_path:
                raise DockerfileError(
                    f"circular dependency detected on stage: {planned[start].name}", _place(planned[index], following)
                )
            elif following not in done:
                stack.append((following, iter(sorted(planned[following].needs()))))
                on_path.add(following)


def _place(planned: PlannedStage, used: int) -> tuple[int, int]:
    """The instruction by which a stage uses another."""
    for position, sources in planned.sources.items():
        if any(source is not None and source.stage == used for source in sources):
            return planned.stage.commands[position].location
    return planned.stage.location
