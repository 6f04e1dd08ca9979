"""`--check`: reads a Dockerfile as a build would, without building, and says what should be written otherwise.

All rules of BuildKit's reference, each with its words and link. What the outside knows is handed in: the environment
and platform of base images, and the context's `.dockerignore`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from wherry.builder.graph.semantics import check, is_remote
from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.exposed import parse_ports
from wherry.builder.language.ignorefile import Matcher, clean
from wherry.builder.language.instructions import Program, parse_instruction, parse_stages
from wherry.builder.language.lexer import find_directive
from wherry.builder.language.parser import Document, Node, parse
from wherry.builder.language.stages import Plan, PlannedStage, plan
from wherry.builder.language.suggestions import suggest
from wherry.builder.language.variables import Globals, StageScope
from wherry.builder.lint.report import CHECK_ARG, LintReport, parse_options
from wherry.errors import InvalidArgument
from wherry.oci import platform as platforms
from wherry.oci import reference as references
from wherry.oci.platform import Platform
from wherry.values.gotext import quote

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_RESERVED = ("context", "scratch")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What is known of an image: its environment, ONBUILD triggers, SHELL and platform."""

    env: Mapping[str, str] = field(default_factory=dict)
    onbuild: Sequence[str] = ()
    shell: Sequence[str] = ()
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Dockerfile is read with.

    Args:
        build_args: of `--build-arg`.
        target: `--target`; "" reads all stages.
        build_platform: what runs the build.
        target_platform: what is built for.
        contexts: names of `--build-context`.
        ignore: the context's `.dockerignore`, or None.
        images: what is known of images, by the name that FROM gives (after expansion). What an image that is not
            here has in its environment nobody knows: nothing is said of variables in stages on top of it.
        all_stages: also read stages that the target does not need.
    """

    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    build_platform: Platform = field(default_factory=platforms.host)
    target_platform: Platform = field(default_factory=platforms.host)
    contexts: Sequence[str] = ()
    ignore: Matcher | None = None
    images: Mapping[str, BaseImage] = field(default_factory=dict)
    all_stages: bool = True


def lint(data: bytes, around: Surroundings, name: str = "Dockerfile") -> LintReport:
    """Read a Dockerfile and report.

    Args:
        data: its bytes.
        around: what it is read with.
        name: what it is called in messages.

    Returns:
        the findings; an error in the file ends the reading and is in the report.
    """
    report = LintReport(name, data.decode("utf-8", "surrogateescape"))
    try:
        asked = around.build_args.get(CHECK_ARG)
        _read_options(report, find_directive(data, "check") or "" if asked is None else asked)
        if not data:
            raise DockerfileError("the Dockerfile cannot be empty")
        document = parse(data, name)
        _lint(document, around, report)
    except InvalidArgument as error:
        report.error = error if isinstance(error, DockerfileError) else DockerfileError(error.message)
    return report


def _read_options(report: LintReport, text: str) -> None:
    try:
        report.options = parse_options(text)
    except InvalidArgument as error:
        raise DockerfileError(f"failed to parse check options: {error.message}") from None


def _lint(document: Document, around: Surroundings, report: LintReport) -> None:
    for warning in document.warnings:
        report.add("NoEmptyContinuation", warning.location)
    _lint_nodes(document, report)
    program = parse_stages(document)
    _lint_names(program, report)
    _lint_casing(program, report)
    shared, without = (
        Globals(
            build_args=around.build_args,
            build_platform=around.build_platform,
            target_platform=around.target_platform,
            target=around.target or program.stages[-1].name,
            escape=document.escape,
        )
        for _ in range(2)
    )
    _lint_defaults(program, without, report)
    shared.declare(program.meta_args)
    for stage in program.stages:
        if not _lint_from(stage, shared, report):
            break
    first = plan(program.stages, shared, target=around.target, contexts=around.contexts)
    triggers = {
        planned.index: around.images[planned.base.name].onbuild
        for planned in first.stages
        if planned.base.kind == "image" and planned.base.name in around.images
    }
    whole = plan(program.stages, shared, target=around.target, contexts=around.contexts, triggers=triggers)
    _Walk(whole, shared, around, report).run()


def _lint_nodes(document: Document, report: LintReport) -> None:
    in_stage = False
    for node in document.nodes:
        if node.keyword == "maintainer":
            report.add("MaintainerDeprecated", node.location, comments=node.comments)
        if node.keyword == "from":
            _lint_from_words(node, report)
        try:
            value = parse_instruction(node)
        except InvalidArgument:
            return  # `parse_stages` raises it again, with its line
        in_stage |= isinstance(value, c.Stage)
        if not in_stage and not isinstance(value, c.Arg):
            return  # likewise
        if isinstance(value, c.Stage) and value.name:
            _lint_description("FROM", [value.name], node, report)
        elif isinstance(value, c.Arg):
            _lint_description("ARG", [pair.key for pair in value.args], node, report)


def _lint_from_words(node: Node, report: LintReport) -> None:
    words = node.words
    if len(words) == 3 and words[2] != words[2].lower():
        report.add("StageNameCasing", node.location, words[2], comments=node.comments)
    if len(words) < 3:
        return
    lower, upper = node.value == node.value.lower(), node.value == node.value.upper()
    expected = words[1].lower() if lower else words[1].upper()
    if (lower or upper) and words[1] != expected:
        report.add("FromAsCasing", node.location, words[1], node.value, comments=node.comments)


def _lint_description(instruction: str, names: list[str], node: Node, report: LintReport) -> None:
    if node.comments and node.comments[-1].split(" ")[0] not in names:
        example = names[0] if len(names) == 1 else "<arg_key>"
        report.add("InvalidDefinitionDescription", node.location, instruction, example, comments=node.comments)


def _lint_names(program: Program, report: LintReport) -> None:
    seen: set[str] = set()
    for stage in program.stages:
        if stage.name in _RESERVED:
            report.add("ReservedStageName", stage.location, quote(stage.name))
        if stage.name and stage.name in seen:
            report.add("DuplicateStageName", stage.location, quote(stage.name))
        seen.add(stage.name)


def _lint_casing(program: Program, report: LintReport) -> None:
    names = [
        (name, location)
        for stage in program.stages
        for name, location in (
            (stage.from_name, stage.location),
            *((command.name, command.location) for command in stage.commands),
        )
    ]
    lower = sum(name == name.lower() for name, _ in names)
    upper = sum(name == name.upper() and name != name.lower() for name, _ in names)
    right = "lowercase" if lower > upper else "uppercase"
    for name, location in names:
        if name != (name.lower() if lower > upper else name.upper()):
            report.add("ConsistentInstructionCasing", location, name, right)


def _lint_defaults(program: Program, shared: Globals, report: LintReport) -> None:
    """Base names must make sense with nothing but the file's own defaults."""
    shared.build_args = {}
    try:
        shared.declare(program.meta_args)
        for stage in program.stages:
            base = shared.expand(stage.base_name).text
            try:
                references.parse_normalized(base)
            except InvalidArgument:
                report.add("InvalidDefaultArgInFrom", stage.location, stage.base_name)
    except InvalidArgument:
        return  # the build fails with it anyway


def _lint_from(stage: c.Stage, shared: Globals, report: LintReport) -> bool:
    """Variables and the platform of a FROM line; False where they cannot be read."""
    known = [*shared.declared, *shared.values]
    try:
        base = shared.expand(stage.base_name)
        _lint_undeclared(stage, base.unmatched, known, report)
        if not base.text:
            return False
        if stage.platform:
            expansion = shared.expand(stage.platform)
            _lint_undeclared(stage, expansion.unmatched, known, report)
            alone = expansion.matched == {"TARGETPLATFORM"} and not expansion.unmatched
            if alone and expansion.text == shared.values["TARGETPLATFORM"]:
                report.add("RedundantTargetPlatform", stage.location, stage.platform, comments=stage.comments)
            platform = platforms.parse(expansion.text)
            constant = not expansion.matched and not expansion.unmatched
            named = platform.os in stage.name or platform.architecture in stage.name
            if constant and not named:
                report.add(
                    "FromPlatformFlagConstDisallowed", stage.location, quote(expansion.text), comments=stage.comments
                )
    except InvalidArgument:
        return False
    return True


def _lint_undeclared(stage: c.Stage, names: frozenset[str], known: list[str], report: LintReport) -> None:
    for name in sorted(names.difference(known)):
        hint = suggest(name, known)
        report.add("UndefinedArgInFrom", stage.location, name, comments=stage.comments, hint=hint)


@dataclass(slots=True)
class _StageState:
    """What a stage has when its next instruction is read."""

    scope: StageScope
    has_shell: bool
    known: bool
    workdir_set: bool = False
    last: dict[str, c.Command] = field(default_factory=dict)


class _Walk:
    """Goes through the stages' instructions with their variables."""

    def __init__(self, whole: Plan, shared: Globals, around: Surroundings, report: LintReport) -> None:
        self.whole = whole
        self.shared = shared
        self.around = around
        self.report = report
        self.states: dict[int, _StageState] = {}

    def run(self) -> None:
        every = self.around.all_stages and not self.around.target
        indices = range(len(self.whole.stages)) if every else self.whole.needed
        for index in indices:
            self._lint_platform(self.whole.stages[index])
        for index in indices:
            planned = self.whole.stages[index]
            state = self._begin(planned)
            self.states[index] = state
            if planned.replaced:
                continue
            for position, command in enumerate(planned.stage.commands):
                self._one(command, state, outside=position in planned.sources)

    def _lint_platform(self, planned: PlannedStage) -> None:
        image = self.around.images.get(planned.base.name) if planned.base.kind == "image" else None
        expected = planned.platform or self.around.target_platform
        if image is None or image.platform is None:
            return
        if (image.platform.os, image.platform.architecture) != (expected.os, expected.architecture):
            name, actual = planned.base.name, quote(str(image.platform))
            location = planned.stage.location
            self.report.add("InvalidBaseImagePlatform", location, name, actual, quote(str(expected)))

    def _begin(self, planned: PlannedStage) -> _StageState:
        base = planned.base
        if base.kind == "stage" and base.stage in self.states:
            state = self.states[base.stage]
            return _StageState(state.scope.child(), state.has_shell, state.known, state.workdir_set)
        known = base.kind == "scratch" or base.name in self.around.images
        image = self.around.images.get(base.name, BaseImage())
        env = {**image.env} if "PATH" in image.env else {**image.env, "PATH": DEFAULT_PATH}
        return _StageState(StageScope.begin(self.shared, env), bool(image.shell), known)

    def _one(self, command: c.Command, state: _StageState, *, outside: bool) -> None:
        def undefined(_command: c.Command, name: str, known: Collection[str]) -> None:
            hint = suggest(name, known)
            if state.known:
                self._add("UndefinedVar", command, name, hint="$" + hint if hint else "")

        expanded = state.scope.apply(command, undefined)
        check(expanded)
        match expanded:
            case c.Env() | c.Label():
                for pair in expanded.pairs:
                    if pair.legacy:
                        self._add("LegacyKeyValueFormat", command, command.name)
                    if isinstance(expanded, c.Env):
                        self._secret("ENV", pair.key, command)
            case c.Arg():
                for arg in expanded.args:
                    self._secret("ARG", arg.key, command)
            case c.Workdir():
                if not state.workdir_set and not expanded.path.startswith("/"):
                    self._add("WorkdirRelativePath", command, quote(expanded.path))
                state.workdir_set = True
            case c.Shell():
                state.has_shell = True
            case c.Cmd() | c.Entrypoint():
                self._once(command, state)
                if expanded.shell and not state.has_shell:
                    self._add("JSONArgsRecommended", command, command.name)
            case c.Healthcheck():
                self._once(command, state)
            case c.Expose():
                self._ports(command, state)
            case c.Transfer():
                if not outside:
                    self._ignored(expanded, command)

    def _add(self, rule: str, command: c.Command, *parts: str, hint: str = "") -> None:
        self.report.add(rule, command.location, *parts, comments=command.comments, hint=hint)

    def _secret(self, instruction: str, key: str, command: c.Command) -> None:
        if _SECRET.search(key) and not _NO_SECRET.search(key):
            self._add("SecretsUsedInArgOrEnv", command, instruction, quote(key))

    def _once(self, command: c.Command, state: _StageState) -> None:
        kind = type(command).__name__
        before = state.last.get(kind)
        if before is not None:  # shown is the one that does nothing
            self.report.add("MultipleInstructionsDisallowed", before.location, command.name, comments=command.comments)
        state.last[kind] = command

    def _ports(self, command: c.Command, state: _StageState) -> None:
        if isinstance(command, c.Expose):
            lexer = self.shared.lexer
            words = [word for port in command.ports for word in lexer.process_words(port, state.scope.env)]
            parse_ports(words, lambda rule, word: self._add(rule, command, word))

    def _ignored(self, expanded: c.Transfer, command: c.Command) -> None:
        ignore = self.around.ignore
        if ignore is None or ignore.takes_in_again:
            return
        verb = "Add" if isinstance(expanded, c.Add) else "Copy"
        for source in expanded.sources:
            path = clean(source)
            if is_remote(source):
                continue
            if path in (".", "/") and not any(pattern.text in ("*", "**", "**/*") for pattern in ignore.patterns):
                continue
            if ignore.matches(path):
                self._add("CopyIgnoredFile", command, verb, quote(path))
