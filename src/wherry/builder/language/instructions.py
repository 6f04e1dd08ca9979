"""From the tree to values: each node becomes the instruction it names, and a Dockerfile becomes stages.

Nothing is expanded here; what cannot be right whatever the variables are is refused, in BuildKit's words.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.flags import Flags
from wherry.builder.language.heredocs import heredoc_of
from wherry.builder.language.parser import Document, Node, parse
from wherry.builder.language.runmounts import mount_source, parse_device
from wherry.builder.language.suggestions import did_you_mean
from wherry.errors import InvalidArgument
from wherry.values import durations
from wherry.values.gotext import SPACE, quote

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ONBUILD = re.compile(rf"^[{re.escape(SPACE)}]*ONBUILD[{re.escape(SPACE)}]*", re.IGNORECASE)
_MILLISECOND = 10**6
_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Program:
    """A Dockerfile's meaning: the ARGs before the first FROM, and the stages."""

    meta_args: tuple[c.Arg, ...]
    stages: tuple[c.Stage, ...]


def parse_stages(document: Document) -> Program:
    """Judge every instruction and sort them into stages.

    Raises:
        DockerfileError: an instruction that is none or is wrong (`dockerfile parse error on line N: …`), one that
            stands before any FROM, or no FROM at all.
    """
    meta_args: list[c.Arg] = []
    stages: list[c.Stage] = []
    bodies: list[list[c.Command]] = []
    for node in document.nodes:
        try:
            value = parse_instruction(node)
        except InvalidArgument as error:
            message = f"dockerfile parse error on line {node.start_line}: {error.message}"
            raise DockerfileError(message, node.location) from None
        if isinstance(value, c.Stage):
            stages.append(value)
            bodies.append([])
        elif stages:
            bodies[-1].append(value)
        elif isinstance(value, c.Arg):
            meta_args.append(value)
        else:
            raise DockerfileError("no build stage in current context", node.location)
    if not stages:
        raise DockerfileError("dockerfile contains no stages to build")
    whole = (replace(stage, commands=tuple(body)) for stage, body in zip(stages, bodies, strict=True))
    return Program(tuple(meta_args), tuple(whole))


def parse_trigger(expression: str, stage: c.Stage) -> c.Command:
    """An ONBUILD expression out of an image, as an instruction of the stage that starts from it.

    Raises:
        DockerfileError: it is no single instruction, or one that is not allowed there; located at the stage's FROM.
    """
    try:
        document = parse(expression.encode("utf-8", "surrogateescape"))
        if len(document.nodes) != 1:
            raise DockerfileError("onbuild trigger should be a single expression")
        start, end = stage.location
        value = parse_instruction(replace(document.nodes[0], start_line=start, end_line=end))
        if isinstance(value, c.Stage | c.Onbuild | c.Maintainer):
            raise DockerfileError(f"{value.original.split()[0].upper()} isn't allowed as an ONBUILD trigger")
    except InvalidArgument as error:
        raise DockerfileError(error.message, stage.location) from None
    return value


def parse_instruction(node: Node) -> c.Command | c.Stage:
    """One instruction.

    Raises:
        DockerfileError: an unknown name, wrong flags or arguments.
    """
    handler = _HANDLERS.get(node.keyword)
    if handler is None:
        names = tuple(name.upper() for name in _HANDLERS)
        message = f"unknown instruction: {node.value}"
        raise DockerfileError(did_you_mean(message, node.value, names, case_sensitive=False))
    return handler(node)


def _common(node: Node) -> dict[str, Any]:
    return {
        "name": node.value,
        "original": node.original.strip(SPACE),
        "location": node.location,
        "comments": node.comments,
    }


def describe(comments: Iterable[str], name: str) -> str:
    """What a comment `# name text` says of `name`."""
    if not name:
        return ""
    return next((line[len(name) + 1 :] for line in comments if line.startswith(name + " ")), "")


def _at_least_one(command: str) -> DockerfileError:
    return DockerfileError(f"{command} requires at least one argument")


def _one(node: Node) -> str:
    if len(node.words) != 1:
        raise DockerfileError(f"{node.keyword.upper()} requires exactly one argument")
    return node.words[0]


def _from(node: Node) -> c.Stage:
    words = node.words
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise DockerfileError(
                f"invalid name for build stage: {quote(words[2])}, name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise DockerfileError("FROM requires either one or three arguments")
    flags = Flags(node.flags, text=("platform",))
    return c.Stage(
        name=name,
        base_name=words[0],
        platform=flags.text("platform"),
        from_name=node.value,
        original=node.original.strip(SPACE),
        location=node.location,
        comments=node.comments,
        description=describe(node.comments, name),
    )


def _pairs(node: Node) -> tuple[c.Pair, ...]:
    Flags(node.flags)
    command, words = node.keyword.upper(), node.words
    if not words:
        raise _at_least_one(command)
    if "" in words[::3]:
        raise DockerfileError(f"{command} names can not be blank")
    return tuple(
        c.Pair(key, value, legacy=not sign)
        for key, value, sign in zip(words[::3], words[1::3], words[2::3], strict=True)
    )


def _env(node: Node) -> c.Env:
    return c.Env(pairs=_pairs(node), **_common(node))


def _label(node: Node) -> c.Label:
    return c.Label(pairs=_pairs(node), **_common(node))


def _arg(node: Node) -> c.Arg:
    if not node.words:
        raise _at_least_one("ARG")
    args: list[c.ArgPair] = []
    for word in node.words:
        key, equals, value = word.partition("=")
        if equals and not key:
            raise DockerfileError("ARG names can not be blank")
        args.append(c.ArgPair(key, value if equals else None, describe(node.comments, key)))
    return c.Arg(args=tuple(args), **_common(node))


def _maintainer(node: Node) -> c.Maintainer:
    author = _one(node)
    Flags(node.flags)
    return c.Maintainer(author=author, **_common(node))


def _workdir(node: Node) -> c.Workdir:
    path = _one(node)
    Flags(node.flags)
    return c.Workdir(path=path, **_common(node))


def _user(node: Node) -> c.User:
    user = _one(node)
    Flags(node.flags)
    return c.User(user=user, **_common(node))


def _stopsignal(node: Node) -> c.StopSignal:
    return c.StopSignal(signal=_one(node), **_common(node))


def _expose(node: Node) -> c.Expose:
    if not node.words:
        raise _at_least_one("EXPOSE")
    Flags(node.flags)
    return c.Expose(ports=tuple(sorted(node.words)), **_common(node))


def _volume(node: Node) -> c.Volume:
    if not node.words:
        raise _at_least_one("VOLUME")
    Flags(node.flags)
    volumes = tuple(word.strip(SPACE) for word in node.words)
    if "" in volumes:
        raise DockerfileError("VOLUME specified can not be an empty string")
    return c.Volume(volumes=volumes, **_common(node))


def _shell(node: Node) -> c.Shell:
    Flags(node.flags)
    if not node.words:
        raise _at_least_one("SHELL")
    if not node.json:
        raise DockerfileError("SHELL requires the arguments to be in JSON form")
    return c.Shell(shell=node.words, **_common(node))


def _cmd(node: Node) -> c.Cmd:
    Flags(node.flags)
    return c.Cmd(cmdline=node.words, shell=not node.json, **_common(node))


def _entrypoint(node: Node) -> c.Entrypoint:
    Flags(node.flags)
    return c.Entrypoint(cmdline=node.words, shell=not node.json, **_common(node))


def _run(node: Node) -> c.Run:
    flags = Flags(node.flags, text=("network", "security"), lists=("mount", "device"))
    devices = tuple(parse_device(flag) for flag in flags.list("device"))
    mounts = tuple(mount_source(flag) for flag in flags.list("mount"))
    network = flags.text("network", "default")
    if network not in ("default", "none", "host"):
        raise DockerfileError(f"invalid network mode {quote(network)}")
    security = flags.text("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise DockerfileError(f"security {quote(security)} is not valid")
    return c.Run(
        cmdline=node.words,
        shell=not node.json,
        mount_flags=flags.list("mount"),
        mounts=mounts,
        network=network,
        security=security,
        devices=devices,
        files=tuple(c.RunFile(doc.name, doc.content, doc.chomp) for doc in node.heredocs),
        flags_used=flags.used(),
        **_common(node),
    )


def _healthcheck(node: Node) -> c.Healthcheck:
    if not node.words:
        raise _at_least_one("HEALTHCHECK")
    kind, command = node.words[0].upper(), node.words[1:]
    if kind == "NONE":
        if command:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return c.Healthcheck(test=("NONE",), **_common(node))
    flags = Flags(node.flags, text=("interval", "timeout", "start-period", "start-interval", "retries"))
    if kind != "CMD":
        raise DockerfileError(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    if not command:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    return c.Healthcheck(
        test=("CMD" if node.json else "CMD-SHELL", *command),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
        **_common(node),
    )


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    try:
        value = durations.parse(text) if text else 0
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    if value and value < _MILLISECOND:
        raise DockerfileError(f"Interval {quote(name)} cannot be less than 1ms")
    return value


def _retries(text: str) -> int:
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not digits or digits.strip("0123456789"):
        raise DockerfileError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    value = int(digits) if len(digits) < 20 else _MAX_INT32 + 2
    value = -value if text[0] == "-" else value
    if not -_MAX_INT32 - 1 <= value <= _MAX_INT32:
        raise DockerfileError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    if value < 0:
        raise DockerfileError(f"--retries cannot be negative ({value})")
    return value


def _transfer(node: Node) -> dict[str, Any]:
    command = node.keyword.upper()
    *sources, dest = node.words
    if heredoc_of(dest) is not None:
        raise DockerfileError(f"{command} cannot accept a heredoc as a destination")
    bodies = {doc.name: doc for doc in node.heredocs}
    paths: list[str] = []
    files: list[c.InlineFile] = []
    for source in sources:
        announced = heredoc_of(source)
        if announced is None:
            paths.append(source)
            continue
        body = bodies.get(announced.name)
        content = replace(announced, content=body.content if body else "").text
        files.append(c.InlineFile(announced.name, content, announced.expand))
    return {"sources": tuple(paths), "files": tuple(files), "dest": dest, **_common(node)}


def _no_destination(command: str) -> DockerfileError:
    return DockerfileError(
        f"{command} requires at least two arguments, but only one was provided. Destination could not be determined"
    )


def _copy(node: Node) -> c.Copy:
    if len(node.words) < 2:
        raise _no_destination("COPY")
    flags = Flags(node.flags, text=("chown", "from", "chmod"), lists=("exclude",), switches=("link", "parents"))
    return c.Copy(
        from_=flags.text("from"),
        parents=bool(flags.switch("parents")),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.list("exclude"),
        **_transfer(node),
    )


def _add(node: Node) -> c.Add:
    if len(node.words) < 2:
        raise _no_destination("ADD")
    flags = Flags(
        node.flags,
        text=("chown", "chmod", "checksum"),
        lists=("exclude",),
        switches=("link", "keep-git-dir", "unpack"),
    )
    return c.Add(
        checksum=flags.text("checksum"),
        keep_git_dir=flags.switch("keep-git-dir"),
        unpack=flags.switch("unpack"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.list("exclude"),
        **_transfer(node),
    )


def _onbuild(node: Node) -> c.Onbuild:
    if node.sub is None:
        raise _at_least_one("ONBUILD")
    Flags(node.flags)
    trigger = node.sub.value.strip(SPACE).upper()
    if trigger == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise DockerfileError(f"{trigger} isn't allowed as an ONBUILD trigger")
    parts = [_ONBUILD.sub("", node.original)]
    parts += [f"\n{doc.content}{doc.name}" for doc in node.heredocs]
    return c.Onbuild(expression="".join(parts), **_common(node))


_HANDLERS: dict[str, Callable[[Node], c.Command | c.Stage]] = {
    "add": _add,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stopsignal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}
