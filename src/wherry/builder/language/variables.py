"""ARG and ENV: which variable has which value at which instruction, and instructions with their variables replaced.

    Globals      ARGs before the first FROM, the predefined ones (TARGETPLATFORM…): what FROM lines see
    StageScope   ENV and declared ARGs of one stage: what its instructions see

A stage sees a global ARG only where it declares it again. `--build-arg` wins over defaults. As in BuildKit ENV and ARG
share one set of names: the later one wins for what follows, and only ENV goes into the image.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.exposed import MAX_PORTS, parse_ports
from wherry.builder.language.runmounts import parse_mount
from wherry.builder.language.shellwords import Expansion, Lexer
from wherry.errors import InvalidArgument
from wherry.oci.platform import Platform

PROXY_ARGS = (
    "HTTP_PROXY http_proxy HTTPS_PROXY https_proxy FTP_PROXY ftp_proxy NO_PROXY no_proxy ALL_PROXY all_proxy"
).split()
"""May be given with `--build-arg` without being declared; every RUN sees them, no cache key and no image does."""

_NOT_IN_ENVIRONMENT = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))
_CONTENT = Lexer(skip_quotes=True)

MAX_ENVIRONMENT = 8 << 20
"""Characters in all variables of a stage together; the kernel refuses to start a program with less than that."""

_C = TypeVar("_C", bound=c.Command)
_T = TypeVar("_T", bound=c.Transfer)

Report = Callable[[c.Command, str, Collection[str]], None]
"""Called with an instruction, a name it asks for that is not set, and the names that are."""


class Globals:
    """The variables that FROM lines see.

    Args:
        build_args: of `--build-arg`.
        build_platform: what runs the build.
        target_platform: what is built for.
        target: `--target`, or the last stage's name.
        escape: the Dockerfile's escape character.
    """

    def __init__(
        self,
        *,
        build_args: Mapping[str, str],
        build_platform: Platform,
        target_platform: Platform,
        target: str = "",
        escape: str = "\\",
    ) -> None:
        self.build_args = dict(build_args)
        self.lexer = Lexer(escape)
        self.declared: list[str] = []
        self.used_build_args: set[str] = set()
        self._ports = 0
        self.values: dict[str, str] = {}
        self._predefined = {
            "BUILDPLATFORM": str(build_platform),
            "BUILDOS": build_platform.os,
            "BUILDOSVERSION": "",
            "BUILDARCH": build_platform.architecture,
            "BUILDVARIANT": build_platform.variant,
            "TARGETPLATFORM": str(target_platform),
            "TARGETOS": target_platform.os,
            "TARGETOSVERSION": "",
            "TARGETARCH": target_platform.architecture,
            "TARGETVARIANT": target_platform.variant,
            "TARGETSTAGE": target or "default",
        }
        for name, value in self._predefined.items():
            self.values[name] = self.build_args.get(name, value)

    def declare(self, meta_args: Sequence[c.Arg]) -> None:
        """Take in the ARGs before the first FROM, in order.

        Raises:
            DockerfileError: a default that cannot be expanded.
        """
        size = 0
        for arg in meta_args:
            for pair in arg.args:
                self.declared.append(pair.key)
                value = self.build_args.get(pair.key)
                if value is not None:
                    self.used_build_args.add(pair.key)
                elif pair.value is not None:
                    try:
                        value = self.lexer.process_word(pair.value, self.values)
                    except InvalidArgument as error:
                        raise DockerfileError(error.message, arg.location) from None
                if value is not None:
                    size += len(pair.key) + len(value)
                    if size > MAX_ENVIRONMENT:
                        raise _too_long(arg)
                    self.values[pair.key] = value

    def expand(self, word: str) -> Expansion:
        """A word of a FROM line with its variables replaced.

        Raises:
            InvalidArgument: it cannot be expanded.
        """
        return self.lexer.expand(word, self.values)

    def unused_build_args(self) -> list[str]:
        """Names of `--build-arg` that no ARG took up, sorted; the predefined ones need none."""
        return sorted(self.build_args.keys() - self.used_build_args - self._predefined.keys() - set(PROXY_ARGS))

    def count_ports(self, count: int, command: c.Command) -> None:
        """Note how many ports an EXPOSE named.

        Raises:
            DockerfileError: the Dockerfile names more than `MAX_PORTS`.
        """
        self._ports += count
        if self._ports > MAX_PORTS:
            raise DockerfileError(f"EXPOSE names more than {MAX_PORTS} ports", command.location)

    def proxies(self) -> dict[str, str]:
        """The proxy variables that `--build-arg` gave."""
        return {name: value for name, value in self.build_args.items() if name in PROXY_ARGS}


class StageScope:
    """The variables of a stage as it is walked through, instruction after instruction.

    Args:
        shared: the build's global variables.
        env: what the stage starts with: its base's environment. RUN gets this mapping as it is at that point.
        args: the ARGs that were declared so far, with their effective values (None without one).
        used_build_args: names of `--build-arg` that a declaration took up.
    """

    def __init__(self, shared: Globals, env: dict[str, str], args: list[c.ArgPair], used_build_args: set[str]) -> None:
        self.shared = shared
        self.env = env
        self.args = args
        self.used_build_args = used_build_args
        self._declared = {pair.key for pair in args}
        self._size = sum(len(key) + len(value) for key, value in env.items())

    @classmethod
    def begin(cls, shared: Globals, env: Mapping[str, str]) -> "StageScope":
        """A stage that starts from an image with this environment."""
        return cls(shared, dict(env), [], set())

    def child(self) -> "StageScope":
        """A stage that starts from this one."""
        return StageScope(self.shared, dict(self.env), list(self.args), set(self.used_build_args))

    def apply(self, command: c.Command, report: Report | None = None) -> c.Command:
        """Replace the variables of an instruction; ENV and ARG then count for the instructions that follow.

        Args:
            command: the instruction as parsed.
            report: told of every name that is not set.

        Returns:
            the instruction with its values; an ARG with the value it really has.

        Raises:
            DockerfileError: a word that cannot be expanded, or values that are wrong; located.
        """

        def on_unset(expansion: Expansion) -> None:
            if report is not None and expansion.unmatched:
                unknown = expansion.unmatched - self._declared - _NOT_IN_ENVIRONMENT
                for name in sorted(unknown):
                    report(command, name, self.env)

        try:
            if isinstance(command, c.Arg):
                return self._declare(command, on_unset)
            expanded = expand(command, self.env, self.shared.lexer, on_unset)
        except InvalidArgument as error:
            if isinstance(error, DockerfileError) and error.location:
                raise
            raise DockerfileError(error.message, command.location) from None
        if isinstance(expanded, c.Env):
            for pair in expanded.pairs:
                self._set(pair.key, pair.value, command)
        elif isinstance(expanded, c.Expose):
            self.shared.count_ports(len(expanded.ports), command)
        return expanded

    def _set(self, key: str, value: str, command: c.Command) -> None:
        self._size += len(value) - len(self.env[key]) if key in self.env else len(key) + len(value)
        if self._size > MAX_ENVIRONMENT:
            raise _too_long(command)
        self.env[key] = value

    def _declare(self, command: c.Arg, on_unset: Callable[[Expansion], None]) -> c.Arg:
        out: list[c.ArgPair] = []
        for pair in command.args:
            value = self.shared.build_args.get(pair.key)
            if value is not None:
                self.used_build_args.add(pair.key)
                self.shared.used_build_args.add(pair.key)
            elif pair.value is None:
                value = self.shared.values.get(pair.key)
            else:
                expansion = self.shared.lexer.expand(pair.value, self.env)
                on_unset(expansion)
                value = expansion.text
            effective = replace(pair, value=value)
            if value is not None and pair.key not in _NOT_IN_ENVIRONMENT:
                self._set(pair.key, value, command)
            self.args.append(effective)
            self._declared.add(pair.key)
            out.append(effective)
        return replace(command, args=tuple(out))

    def arg_words(self, *, valueless: bool = True) -> list[str]:
        """What an image's history shows before a RUN's words: `|1 name=value`; empty where no ARG was declared.

        Args:
            valueless: as BuildKit, also those without a value, in the file's order; the classic builder sorts.
        """
        shown: dict[str, str] = {}
        for pair in self.args:
            value = self.env.get(pair.key, pair.value)
            if value is not None or valueless:
                shown[pair.key] = value or ""
        words = [f"{key}={value}" for key, value in (shown.items() if valueless else sorted(shown.items()))]
        return [f"|{len(shown)}", *words] if shown else []


def _too_long(command: c.Command) -> DockerfileError:
    return DockerfileError(f"the variables are longer than {MAX_ENVIRONMENT} characters together", command.location)


def expand(
    command: _C,
    env: Mapping[str, str],
    lexer: Lexer | None = None,
    on_expansion: Callable[[Expansion], None] | None = None,
) -> _C:
    """An instruction with its variables replaced; ARG and those that know no variables come back as they are.

    Raises:
        InvalidArgument: a word that cannot be expanded, a wrong mount or port.
    """
    return cast(_C, _Expander(env, lexer or Lexer(), on_expansion).run(command))


class _Expander:
    def __init__(self, env: Mapping[str, str], lexer: Lexer, on_expansion: Callable[[Expansion], None] | None) -> None:
        self.env = env
        self.lexer = lexer
        self.on_expansion = on_expansion

    def word(self, text: str) -> str:
        return self._with(self.lexer, text)

    def _with(self, lexer: Lexer, text: str) -> str:
        expansion = lexer.expand(text, self.env)
        if self.on_expansion is not None:
            self.on_expansion(expansion)
        return expansion.text

    def words(self, texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.word(text) for text in texts)

    def run(self, command: c.Command) -> c.Command:
        match command:
            case c.Env() | c.Label():
                pairs = (replace(p, key=self.word(p.key), value=self.word(p.value)) for p in command.pairs)
                return replace(command, pairs=tuple(pairs))
            case c.Add():
                return replace(self._transfer(command), checksum=self.word(command.checksum))
            case c.Transfer():
                return self._transfer(command)
            case c.Run():
                return replace(command, mounts=tuple(parse_mount(f, self.word) for f in command.mount_flags))
            case c.Workdir():
                return replace(command, path=self.word(command.path))
            case c.User():
                return replace(command, user=self.word(command.user))
            case c.StopSignal():
                return replace(command, signal=self.word(command.signal))
            case c.Volume():
                volumes = self.words(command.volumes)
                if "" in volumes:
                    raise DockerfileError("VOLUME specified can not be an empty string")
                return replace(command, volumes=volumes)
            case c.Expose():
                ports = [port for text in command.ports for port in self.lexer.process_words(text, self.env)]
                return replace(command, ports=parse_ports(ports))
        return command

    def _transfer(self, command: _T) -> _T:
        files = tuple(
            replace(file, content=self._with(_CONTENT, file.content)) if file.expand else file for file in command.files
        )
        return replace(
            command,
            chown=self.word(command.chown),
            chmod=self.word(command.chmod),
            sources=self.words(command.sources),
            dest=self.word(command.dest),
            files=files,
        )
