"""From stages to a graph: what each instruction does to the root becomes vertices, the rest is configuration.

Everything that must be looked up outside (base images, contexts) was looked up before; this is pure. Only what the
target needs is converted.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wherry.builder.graph import config as configs
from wherry.builder.graph.config import Style
from wherry.builder.graph.operations import (
    ContextSource,
    Copy,
    Exec,
    FileAction,
    Files,
    GitSource,
    HttpSource,
    ImageSource,
    MakeDirectory,
    MakeFile,
    Mount,
    Operation,
    Vertex,
)
from wherry.builder.graph.remotes import git_source, http_source, is_git, is_http
from wherry.builder.graph.semantics import check
from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.heredocs import Heredoc, heredoc_of, summary
from wherry.builder.language.stages import Plan, PlannedStage, Source
from wherry.builder.language.variables import Globals, StageScope
from wherry.images.model import Image
from wherry.values.jsontypes import Json

Patterns = Callable[[tuple[str, ...]], tuple[tuple[str, bool], ...]]


@dataclass(slots=True)
class State:
    """A stage on its way.

    Args:
        root: what it has come to; None is empty.
        config: Docker's configuration.
        history: its entries.
        scope: its variables.
        base: the image's own document, for what is inherited beside the configuration.
        author: of MAINTAINER.
        has_cmd: CMD stood in this stage.
    """

    root: Vertex | None
    config: Json
    history: list[Json]
    scope: StageScope
    base: Json
    author: str = ""
    has_cmd: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction as it was converted: for the classic view, which shows them all.

    Args:
        text: as written.
        vertex: what it does; None for one that only changes the configuration.
        root: what the stage has come to with it.
        config: the configuration with it.
        runs: it is a RUN.
        location: its lines.
        trigger: it is an ONBUILD trigger of the base.
        triggers: of a FROM, how many of them follow.
    """

    text: str
    vertex: Vertex | None
    root: Vertex | None
    config: Json
    runs: bool
    location: tuple[int, int]
    trigger: bool = False
    triggers: int = 0


@dataclass(slots=True)
class Converted:
    """The result.

    Args:
        target: the target's state.
        instructions: all that were converted, in the file's order.
        locations: lines by vertex digest, for an error's excerpt.
    """

    target: State
    instructions: list[Instruction] = field(default_factory=list)
    locations: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was looked up.

    Args:
        images: by name as written.
        contexts: by name: an image, or the vertex of a tree.
        patterns: turns `--exclude` patterns into rules.
        style: whose words history has.
        context: the build context.
        labels: `--label`.
    """

    images: Mapping[str, Image]
    contexts: Mapping[str, "Image | Vertex"]
    patterns: Patterns
    style: Style
    context: Vertex
    labels: Mapping[str, str]


def convert(plan: Plan, shared: Globals, around: Surroundings) -> Converted:
    """Convert what the target needs.

    Raises:
        DockerfileError: an instruction that is wrong in its place; located.
    """
    return _Converter(plan, shared, around).run()


class _Converter:
    def __init__(self, plan: Plan, shared: Globals, around: Surroundings) -> None:
        self.plan = plan
        self.shared = shared
        self.around = around
        self.states: dict[int, State] = {}
        self.result: Converted

    def run(self) -> Converted:
        self.result = Converted(State(None, {}, [], StageScope.begin(self.shared, {}), {}))
        for index in self.plan.needed:
            self.states[index] = self._stage(self.plan.stages[index])
        target = self.result.target = self.states[self.plan.target]
        if self.around.labels:
            target.config["Labels"] = {**(target.config.get("Labels") or {}), **self.around.labels}
        return self.result

    # -- stages

    def _stage(self, planned: PlannedStage) -> State:
        state = self._begin(planned)
        stage = planned.stage
        prefix = f"{planned.name} " if len(self.plan.stages) > 1 or stage.name else ""
        total = 1 + sum(isinstance(command, c.Run | c.Transfer | c.Workdir) for command in stage.commands)
        if state.root is not None and planned.base.kind != "stage":
            state.root.name = state.root.name or f"[{prefix}1/{total}] {stage.original}"
            self.result.locations.setdefault(state.root.digest, stage.location)
        first = state.root if planned.base.kind != "stage" else None
        self._note(stage.original, first, state, stage.location, triggers=planned.triggers)
        if planned.replaced:
            return state
        count = 1
        for position, raw in enumerate(stage.commands):
            command = state.scope.apply(raw)
            before, vertex = state.root, None
            check(command)
            try:
                if isinstance(command, c.Run | c.Transfer | c.Workdir):
                    count += 1
                    label = f"[{prefix}{count}/{total}] "
                    vertex = self._layer(planned, position, command, state, label)
                else:
                    self._plain(command, state)
            except DockerfileError as error:
                raise error.at(command.location) from None
            if vertex is not None:
                self.result.locations.setdefault(vertex.digest, command.location)
            new = vertex if state.root is not before else None
            trigger = position < planned.triggers
            self._note(command.original, new, state, command.location, command, trigger=trigger)
        return state

    def _note(
        self,
        text: str,
        vertex: Vertex | None,
        state: State,
        location: tuple[int, int],
        command: c.Command | None = None,
        *,
        trigger: bool = False,
        triggers: int = 0,
    ) -> None:
        runs = isinstance(command, c.Run)
        self.result.instructions.append(
            Instruction(text, vertex, state.root, dict(state.config), runs, location, trigger, triggers)
        )

    def _begin(self, planned: PlannedStage) -> State:
        base = planned.base
        if base.kind == "stage":
            below = self.states[base.stage]
            config = dict(below.config)
            config.pop("OnBuild", None)
            return State(below.root, config, list(below.history), below.scope.child(), below.base, below.author)
        if base.kind == "scratch":
            return self._empty(None)
        if base.kind == "context":
            found = self.around.contexts[base.name]
            if isinstance(found, Vertex):
                action = Copy(1, ("/",), "/", context=True)
                root = Vertex(Files((action,)), (None, found), f"[context {base.name}] load from client", planned.name)
                return self._empty(root)
        else:
            found = self.around.images[base.name]
        return self._of_image(found, base.name, planned)

    def _empty(self, root: Vertex | None) -> State:
        config: Json = {"Env": [f"PATH={configs.DEFAULT_PATH}"]}
        if self.around.style == "buildkit":
            config["WorkingDir"] = "/"
        return State(root, config, [], StageScope.begin(self.shared, configs.environment(config)), {})

    def _of_image(self, image: Image, name: str, planned: PlannedStage) -> State:
        document = msgspec.json.decode(image.raw_config)
        config = {key: value for key, value in (document.get("config") or {}).items() if value is not None}
        # triggers were taken up by the plan; they are for this stage, not for those on top of it
        config.pop("OnBuild", None)
        for key in ("Hostname", "Domainname", "Image"):
            config.pop(key, None)
        if "PATH" not in configs.environment(config):
            config["Env"] = [*(config.get("Env") or []), f"PATH={configs.DEFAULT_PATH}"]
        root = Vertex(ImageSource(name, image.id), (), "", planned.name) if image.diff_ids else None
        scope = StageScope.begin(self.shared, configs.environment(config))
        history = [entry for entry in document.get("history") or [] if isinstance(entry, dict)]
        return State(root, config, list(history), scope, document, str(document.get("author") or ""))

    # -- instructions

    def _plain(self, command: c.Command, state: State) -> None:
        text = configs.told(command, state.config, self.around.style)
        configs.apply(state.config, command, first_cmd=not state.has_cmd)
        if isinstance(command, c.Onbuild) and self.around.style == "buildkit":
            return
        if isinstance(command, c.Cmd):
            state.has_cmd = True
        if isinstance(command, c.Maintainer):
            state.author = command.author
        self._history(state, text, empty=True)

    def _history(self, state: State, text: str, *, empty: bool, vertex: Vertex | None = None) -> None:
        entry: Json = {"created_by": text}
        if self.around.style == "buildkit":
            entry["comment"] = "buildkit.dockerfile.v0"
        if empty:
            entry["empty_layer"] = True
        elif vertex is not None:
            entry["vertex"] = vertex.digest  # until it is known whether it made a layer
        state.history.append(entry)

    def _layer(
        self, planned: PlannedStage, position: int, command: c.Command, state: State, label: str
    ) -> Vertex | None:
        sources = planned.sources.get(position, ())
        if isinstance(command, c.Run):
            op, inputs, text, shown = self._run(command, sources, state)
        elif isinstance(command, c.Transfer):
            op, inputs, text = self._transfer(command, sources, state)
            shown = command.original
        else:
            assert isinstance(command, c.Workdir)
            text = configs.told(command, state.config, self.around.style)
            configs.apply(state.config, command, first_cmd=False)
            path = configs.absolute("/", state.config["WorkingDir"])
            if path == "/":
                self._history(state, text, empty=True)
                return None
            op, inputs, shown = Files((MakeDirectory(path),)), [], command.original
        vertex = Vertex(op, (state.root, *inputs), label + shown, planned.name)
        state.root = vertex
        self._history(state, text, empty=False, vertex=vertex)
        return vertex

    def _run(
        self, command: c.Run, sources: tuple[Source | None, ...], state: State
    ) -> tuple[Operation, list[Vertex | None], str, str]:
        if command.devices:
            raise DockerfileError("RUN --device is not supported: there are no CDI devices", command.location)
        words, shown = list(command.cmdline), command.original
        files: list[tuple[str, str]] = []
        if command.files:
            words, files, note = _heredocs(command)
            shown += note
        if command.shell:
            words = [*configs.shell(state.config), *(words or [""])]
        inputs: list[Vertex | None] = []
        mounts = []
        for mount, source in zip(command.mounts, sources or (None,) * len(command.mounts), strict=True):
            mounts.append(self._mount(mount, source, state, inputs, command.location))
        args = state.scope.arg_words(valueless=self.around.style == "buildkit")
        text = configs.told(command, state.config, self.around.style, args=args, words=words)
        env = dict(state.scope.env)
        op = Exec(
            args=tuple(words),
            env=tuple(f"{key}={value}" for key, value in env.items()),
            cwd=configs.absolute("/", state.config.get("WorkingDir") or "/"),
            user=state.config.get("User") or "",
            network=command.network,
            security=command.security,
            mounts=tuple(mounts),
            files=tuple(files),
        )
        return op, inputs, text, shown

    def _mount(
        self,
        mount: c.RunMount,
        source: Source | None,
        state: State,
        inputs: list[Vertex | None],
        location: tuple[int, int],
    ) -> Mount:
        base = state.config.get("WorkingDir") or "/"
        target, id_, env = mount.target, mount.id, ""
        if mount.type == "secret":
            id_ = id_ or mount.source or posixpath.basename(target)
            if mount.env is not None:
                env = mount.env or id_
            target = target or ("" if env else f"/run/secrets/{posixpath.basename(id_)}")
        elif mount.type == "ssh":
            target = target or f"/run/buildkit/ssh_agent.{len(inputs)}"
        elif not target:
            raise DockerfileError(f"{mount.type} mount target can not be empty", location)
        if target:
            target = configs.absolute(base, target)
            if target == "/":
                raise DockerfileError(f"invalid mount target {mount.target!r}", location)
        taken = -1
        if mount.type in ("bind", "cache") and (source is not None or mount.type == "bind"):
            inputs.append(self.around.context if source is None else self._source(source))
            taken = len(inputs)
        return Mount(
            kind=mount.type,
            target=target,
            input=taken,
            source=mount.source if mount.type in ("bind", "cache") else "",
            read_only=mount.read_only,
            size=mount.size,
            id=id_ or (target if mount.type == "cache" else ""),
            sharing=mount.sharing or "shared",
            required=mount.required,
            env=env,
            mode=mount.mode,
            uid=mount.uid,
            gid=mount.gid,
        )

    def _transfer(
        self, command: c.Transfer, sources: tuple[Source | None, ...], state: State
    ) -> tuple[Operation, list[Vertex | None], str]:
        text = configs.told(command, state.config, self.around.style)
        dest = configs.absolute(state.config.get("WorkingDir") or "/", command.dest)
        many = len(command.sources) + len(command.files) > 1
        if many and not command.dest.endswith("/") and self.around.style == "classic":
            raise DockerfileError(
                f"When using {command.name.upper()} with more than one source file, the destination must be a "
                "directory and end with a /",
                command.location,
            )
        if (command.dest.endswith(("/", "/.")) or command.dest == ".") and dest != "/":
            dest += "/"
        common: dict[str, Any] = {"owner": command.chown, "chmod": command.chmod}
        inputs: list[Vertex | None] = []
        actions: list[FileAction] = []
        from_stage = sources[0] if sources else None
        plain = [one for one in command.sources if not isinstance(command, c.Add) or not (is_git(one) or is_http(one))]
        if plain:
            where = self.around.context if from_stage is None else self._source(from_stage)
            inputs.append(where)
            actions.append(
                Copy(
                    len(inputs),
                    tuple(plain),
                    dest,
                    exclude=self.around.patterns(command.exclude),
                    parents=isinstance(command, c.Copy) and command.parents,
                    unpack=isinstance(command, c.Add) and command.unpack is not False,
                    context=where is not None and isinstance(where.op, ContextSource),
                    **common,
                )
            )
        if isinstance(command, c.Add):
            actions += [self._remote(command, one, dest, inputs, common) for one in command.sources if one not in plain]
        for file in command.files:
            target = dest + file.name if dest.endswith("/") else dest
            actions.append(MakeFile(target, file.content, **common))
        return Files(tuple(actions), linked=command.link), inputs, text

    def _remote(
        self, command: c.Add, url: str, dest: str, inputs: list[Vertex | None], common: dict[str, Any]
    ) -> FileAction:
        op: GitSource | HttpSource
        if is_git(url):
            op = git_source(url, keep_git=bool(command.keep_git_dir), checksum=command.checksum)
            inputs.append(Vertex(op, (), f"[internal] load git source {url}"))
            return Copy(
                len(inputs), ("/",), dest, context=True, exclude=self.around.patterns(command.exclude), **common
            )
        op = http_source(url, checksum=command.checksum, directory=dest.endswith("/"))
        inputs.append(Vertex(op, (), f"[internal] load remote {url}"))
        return Copy(len(inputs), (op.name,), dest, context=True, unpack=command.unpack is True, **common)

    def _source(self, source: Source) -> Vertex | None:
        """What files are taken from."""
        if source.kind == "stage":
            return self.states[source.stage].root
        if source.kind == "scratch":
            return None
        if source.kind == "context":
            found = self.around.contexts[source.name]
            if isinstance(found, Vertex):
                return found
        else:
            found = self.around.images[source.name]
        return Vertex(ImageSource(source.name, found.id), (), f"FROM {source.name}") if found.diff_ids else None


def _heredocs(command: c.Run) -> tuple[list[str], list[tuple[str, str]], str]:
    """What RUN's heredocs come to: words, scripts to mount, and a note for people."""
    if len(command.cmdline) != 1 or not command.shell:
        raise DockerfileError(f"parsing produced an invalid run command: {list(command.cmdline)}", command.location)
    text, first = command.cmdline[0], command.files[0]
    alone = heredoc_of(text)
    if alone is None:
        for file in command.files:
            text += f"\n{file.content}{file.name}"
        return [text], [], ""
    content = Heredoc(first.name, False, first.chomp, first.content).text
    note = f" ({summary(first.content)})"
    if first.content.startswith("#!"):
        return [f"/dev/pipes/{first.name}"], [(first.name, content)], note
    return [content], [], note
