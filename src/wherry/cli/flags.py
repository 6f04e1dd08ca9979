"""Flags with the grammar and the words of Docker's: `-it`, `-eA=b`, `-p80:80`, `--rm=false`, `--name=x`, `--`."""

from wherry.cli.failure import USAGE, Failure
from wherry.cli.output import line
from wherry.values.gotext import parse_bool, parse_int
from wherry.values.gotext import quote as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


class Flag:
    """One flag.

    Args:
        name: long name.
        short: one letter, or "".
        kind: what help prints as its type; `bool` takes no value, `list`, `map`, `filter`… collect.
        usage: help text, with the default where help shows one.
        default: value when it is not given.
        check: turns the text into a value, or raises `ValueError` with what is wrong.
        hidden: not in the help.
    """

    __slots__ = ("check", "default", "hidden", "kind", "name", "short", "usage")

    def __init__(
        self,
        name: str,
        short: str,
        kind: str,
        usage: str,
        default: "Any" = None,
        check: "Callable[[str], Any] | None" = None,
        *,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.usage = usage
        self.check = check or _CHECKS.get(kind)
        self.hidden = hidden
        self.default = _DEFAULTS.get(kind, "") if default is None else default

    @property
    def label(self) -> str:
        """How an error names it: `-m, --memory`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


COLLECTING = frozenset(("list", "map", "filter", "mount", "ulimit", "network", "strings", "gpu-request"))


def _filter(text: str) -> "tuple[str, str]":
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


_CHECKS: "dict[str, Callable[[str], Any]]" = {
    "bool": parse_bool,
    "int": parse_int,
    "uint16": lambda text: parse_int(text, 16, unsigned=True),
    "filter": _filter,
}
_DEFAULTS: "dict[str, Any]" = {"bool": False, "int": 0, "uint16": 0, "bytes": 0, "decimal": 0, "duration": 0}

HELP = Flag("help", "", "bool", "Print usage", hidden=True)


class HelpRequested(Exception):
    """`--help` was among the flags."""


class Values:
    """What was given.

    Attributes:
        args: what is not a flag.
        changed: names of the flags that were given.
    """

    __slots__ = ("_values", "args", "changed")

    def __init__(self, flags: "Sequence[Flag]") -> None:
        self._values: dict[str, Any] = {
            flag.name: [] if flag.kind in COLLECTING and flag.default == "" else flag.default for flag in flags
        }
        self.args: list[str] = []
        self.changed: set[str] = set()

    def __getitem__(self, name: str) -> "Any":
        return self._values[name]

    def put(self, flag: Flag, text: str) -> None:
        """Take one occurrence of a flag. Raises `ValueError`."""
        value = flag.check(text) if flag.check else text
        self.changed.add(flag.name)
        if flag.kind in COLLECTING:
            self._values[flag.name].append(value)
        else:
            self._values[flag.name] = value

    def filters(self, name: str = "filter") -> "dict[str, list[str]]":
        """A collected filter flag, as the API takes it."""
        found: dict[str, list[str]] = {}
        for key, value in self._values[name]:
            values = found.setdefault(key, [])
            if value not in values:
                values.append(value)
        return found


def parse(flags: "Sequence[Flag]", argv: "Sequence[str]", *, interspersed: bool = True) -> Values:
    """Read an argument vector.

    Args:
        flags: those that are known; `--help` always is, and `-h` where no flag has that letter.
        argv: the words behind the command's name.
        interspersed: whether flags may follow arguments.

    Raises:
        ValueError: in pflag's words.
        HelpRequested: `--help`.
    """
    long = {flag.name: flag for flag in flags}
    short = {flag.short: flag for flag in flags if flag.short}
    values = Values(flags)
    words = list(argv)
    position = 0

    def value_of(flag: Flag, text: str | None, missing: str) -> str:
        nonlocal position
        if text is not None:
            return text
        if flag.kind == "bool":
            return "true"
        if position < len(words):
            position += 1
            return words[position - 1]
        raise ValueError(missing)

    def put(flag: Flag, text: str) -> None:
        try:
            values.put(flag, text)
        except ValueError as error:
            raise ValueError(f"invalid argument {quoted(text)} for {quoted(flag.label)} flag: {error}") from None

    if "help" not in long:
        values = Values([*flags, HELP])
        long["help"] = HELP
    asked = False
    while position < len(words):
        word = words[position]
        position += 1
        if len(word) < 2 or word[0] != "-":
            values.args.append(word)
            if interspersed:
                continue
            break
        if word == "--":
            break
        if word.startswith("--"):
            name, separator, text = word[2:].partition("=")
            if not name or name[0] == "-":
                raise ValueError(f"bad flag syntax: {word}")
            if name not in long:
                raise ValueError(f"unknown flag: --{name}")
            put(long[name], value_of(long[name], text if separator else None, f"flag needs an argument: --{name}"))
            continue
        letters = word[1:]
        while letters:
            letter, rest = letters[0], letters[1:]
            flag = short.get(letter)
            if flag is None:
                if letter == "h":
                    line("Flag shorthand -h has been deprecated, use --help")
                    asked, letters = True, rest
                    continue
                raise ValueError(f"unknown shorthand flag: '{letter}' in -{letters}")
            attached: str | None = None
            if len(rest) > 1 and rest[0] == "=":
                attached, rest = rest[1:], ""
            elif flag.kind != "bool" and rest:
                attached, rest = rest, ""
            put(flag, value_of(flag, attached, f"flag needs an argument: '{letter}' in -{letters}"))
            letters = rest
    values.args += words[position:]
    if asked or values["help"]:
        raise HelpRequested
    return values


class Command:
    """A command: how it is used, its flags, and the function that does it.

    Args:
        use: what follows its name in the usage line.
        summary: one sentence.
        run: gets the invocation, returns the exit status (None is 0).
        flags: its flags.
        arguments: how many: (at least, at most); None is no bound.
        aliases: every full name under which it goes, for the help; empty when there is one.
        interspersed: whether flags may follow arguments.
    """

    __slots__ = ("aliases", "arguments", "flags", "interspersed", "run", "summary", "use")

    def __init__(
        self,
        use: str,
        summary: str,
        run: "Callable[[Invocation], int | None]",
        flags: "Sequence[Flag]" = (),
        *,
        arguments: "tuple[int, int | None]" = (0, 0),
        aliases: "Sequence[str]" = (),
        interspersed: bool = True,
    ) -> None:
        self.use = use
        self.summary = summary
        self.run = run
        self.flags = flags
        self.arguments = arguments
        self.aliases = aliases
        self.interspersed = interspersed

    def usage_line(self, path: str) -> str:
        return f"{path} {self.use}".rstrip()

    def parse(self, path: str, argv: "Sequence[str]") -> Values:
        """Read this command's words; raises `Failure` in Docker's words, and `HelpRequested`."""
        try:
            values = parse(self.flags, argv, interspersed=self.interspersed)
        except ValueError as error:
            raise flag_failure(str(error), path, self.usage_line(path)) from None
        complaint = self._count(len(values.args))
        if complaint:
            words, see = complaint
            raise Failure(
                f"wherry: '{path}' {words}\n\nUsage:  {self.usage_line(path)}\n\n"
                f"{see} '{path} --help' for more information"
            )
        return values

    def _count(self, number: int) -> "tuple[str, str] | None":
        least, most = self.arguments
        if number >= least and (most is None or number <= most):
            return None
        if most == 0:
            return "accepts no arguments", "Run"
        if least == most:
            return f"requires {least} argument{'' if least == 1 else 's'}", "Run"
        if most is None:
            return f"requires at least {least} argument{'' if least == 1 else 's'}", "See"
        plural = "" if most == 1 else "s"
        if least == 0:
            return f"requires at most {most} argument{plural}", "Run"
        return f"requires at least {least} and at most {most} argument{plural}", "Run"


def flag_failure(message: str, path: str, usage: str) -> Failure:
    """A flag that is not understood: its usage line, and 125."""
    return Failure(f"{message}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information", USAGE)


class Invocation:
    """One command line at work.

    Attributes:
        path: the command as it was named (`wherry container ls`).
        values: its flags and arguments.
    """

    __slots__ = ("_client", "_host", "_tls", "path", "values")

    def __init__(self, path: str, values: Values, host: str | None, tls: "Mapping[str, object] | None" = None) -> None:
        self.path = path
        self.values = values
        self._host = host
        self._tls = tls
        self._client: Any = None

    @property
    def args(self) -> "list[str]":
        return self.values.args

    def __getitem__(self, name: str) -> "Any":
        return self.values[name]

    @property
    def host(self) -> "str | None":
        """What `-H` says."""
        return self._host

    @property
    def client(self) -> "Any":
        """The engine's client (`wherry.client.http.Client`); made on first use."""
        if self._client is None:
            from wherry.client.address import choose
            from wherry.client.http import Client

            self._client = Client(choose(self._host, self._tls), _autostart)
        return self._client


def _autostart(address: "Any", error: OSError) -> None:
    from wherry.client.autostart import start_engine

    start_engine(address, error)
