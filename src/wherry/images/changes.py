"""`--change` of import and commit: Dockerfile instructions that only touch an image's config.

The grammar is the Dockerfile's: JSON form or shell form, `KEY=value` words with quotes and backslashes, variables of
the config's environment (`$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}`) everywhere but in commands. Refusals are
Docker's (`FOO is not a valid change command`).
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wherry.errors import InvalidArgument
from wherry.values import durations
from wherry.values.gotext import quote
from wherry.values.jsontypes import Json

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/([A-Za-z]+))?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#]")
_MILLISECOND = 10**6
_SHELL = ["/bin/sh", "-c"]


def apply(config: Json, changes: Iterable[str]) -> Json:
    """Return a copy of an image's `config` object with the instructions applied, in order.

    Args:
        config: with Docker's keys (`Env`, `Cmd`…).
        changes: each one or more lines of a Dockerfile.

    Raises:
        InvalidArgument: an instruction that is not allowed here, or with wrong arguments.
    """
    changed = dict(config)
    command_given = False
    for change in changes:
        for line in change.replace("\\\n", "").splitlines():
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            word, _, rest = text.partition(" ")
            name = word.upper()
            instruction = _INSTRUCTIONS.get(name)
            if instruction is None:
                raise InvalidArgument(f"{name} is not a valid change command")
            instruction(changed, rest.strip())
            if name == "CMD":
                command_given = bool(changed["Cmd"])
            elif name == "ENTRYPOINT" and not command_given:
                # the old command was arguments for the old entrypoint
                changed.pop("Cmd", None)
    return changed


def words(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Split at blanks as the Dockerfile does: quotes and backslashes keep a blank; both are taken away.

    Args:
        environment: variables that `$NAME` stands for; None leaves dollars alone.

    Raises:
        InvalidArgument: a `${` that is not closed, or with an operator that there is not.
    """
    found: list[str] = []
    word, started, quote = "", False, ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "$" and quote != "'" and environment is not None:
            value, position = _variable(text, position, environment)
            word += value
            started = started or bool(value)
            continue
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"' and text[position + 1 : position + 2] in ('"', "\\", "$"):
                position += 1
                word += text[position]
            else:
                word += char
        elif char in "\"'":
            quote, started = char, True
        elif char == "\\" and position + 1 < len(text):
            position += 1
            word += text[position]
            started = True
        elif char.isspace():
            if started:
                found.append(word)
            word, started = "", False
        else:
            word += char
            started = True
        position += 1
    if started:
        found.append(word)
    return found


def _variable(text: str, position: int, environment: Mapping[str, str]) -> tuple[str, int]:
    """Read the variable at `text[position]`, a dollar; returns its value and where it ends."""
    braced = text[position + 1 : position + 2] == "{"
    match = _NAME.match(text, position + (2 if braced else 1))
    if match is None:
        if braced:
            raise _unprocessed(text, "unexpected end of statement while looking for matching }")
        return "$", position + 1
    name, end = match[0], match.end()
    if not braced:
        return environment.get(name, ""), end
    close = text.find("}", end)
    if close < 0:
        raise _unprocessed(text, "unexpected end of statement while looking for matching }")
    # with a colon an empty value counts as none
    colon = text[end] == ":"
    operator, rest = text[end + colon : end + colon + 1], text[end + colon + 1 : close]
    value = environment.get(name)
    there = bool(value) if colon else value is not None
    if end == close:
        return value or "", close + 1
    if operator == "-":
        return (value or "") if there else rest, close + 1
    if operator == "+":
        return rest if there else "", close + 1
    if operator == "?":
        if not there:
            raise _unprocessed(text[position : close + 1], f"{name}: {rest or 'is not allowed to be unset'}")
        return value or "", close + 1
    raise _unprocessed(text, f"unsupported modifier ({text[end : end + 1 + colon]}) in substitution")


def _unprocessed(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"failed to process {json.dumps(text)}: {why}")


def _environment(config: Json) -> dict[str, str]:
    return {key: value for key, _, value in (item.partition("=") for item in config.get("Env") or [])}


def _list(text: str) -> list[str] | None:
    """The JSON form of an instruction's arguments, or None where it is not that."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        # half a surrogate pair (`"\\ud800"`) is no character; Go's reader replaces it too
        return [item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in value]
    return None


def _command(config: Json, text: str) -> list[str]:
    parsed = _list(text)
    if parsed is not None:
        return parsed
    return [*(config.get("Shell") or _SHELL), text] if text else []


def _cmd(config: Json, text: str) -> None:
    config["Cmd"] = _command(config, text)


def _entrypoint(config: Json, text: str) -> None:
    config["Entrypoint"] = _command(config, text) or None


def _pairs(name: str, config: Json, text: str) -> list[tuple[str, str]]:
    if not text:
        raise InvalidArgument(f"{name} requires at least one argument")
    environment = _environment(config)
    found = words(text, environment)
    if "=" not in text.split(maxsplit=1)[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidArgument(f"{name} must have two arguments")
        return [(key, _expanded(config, value.strip()))]
    pairs: list[tuple[str, str]] = []
    for word in found:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: name=value")
        if not key:
            raise InvalidArgument(f"{name} names can not be blank")
        pairs.append((key, value))
    return pairs


def _env(config: Json, text: str) -> None:
    # a variable that was there keeps its place
    merged = _environment(config)
    merged.update(_pairs("ENV", config, text))
    config["Env"] = [f"{key}={value}" for key, value in merged.items()]


def _label(config: Json, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs("LABEL", config, text))}


def _expose(config: Json, text: str) -> None:
    found = words(text, _environment(config))
    if not found:
        raise InvalidArgument("EXPOSE requires at least one argument")
    ports: dict[str, Any] = dict(config.get("ExposedPorts") or {})
    for word in found:
        match = _PORT.fullmatch(word.rpartition(":")[2])
        if match is None:
            raise InvalidArgument(f"Invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        protocol = (match[3] or "tcp").lower()
        if not 0 < first <= last < 65536:
            raise InvalidArgument(f"Invalid containerPort: {word}")
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidArgument(f"Invalid proto: {match[3]}")
        for port in range(first, last + 1):
            ports[f"{port}/{protocol}"] = {}
    config["ExposedPorts"] = dict(sorted(ports.items()))


def _user(config: Json, text: str) -> None:
    config["User"] = _expanded(config, _one("USER", text))


def _stop_signal(config: Json, text: str) -> None:
    config["StopSignal"] = _expanded(config, _one("STOPSIGNAL", text))


def _expanded(config: Json, text: str) -> str:
    """The text as one word: blanks stay, quotes go, variables get their values."""
    return " ".join(words(text, _environment(config))) if text.strip() else text


def _one(name: str, text: str) -> str:
    if not text:
        raise InvalidArgument(f"{name} requires exactly one argument")
    return text


def _volume(config: Json, text: str) -> None:
    parsed = _list(text)
    paths = [_expanded(config, path) for path in parsed] if parsed else words(text, _environment(config))
    if not paths:
        raise InvalidArgument("VOLUME requires at least one argument")
    volumes = dict(config.get("Volumes") or {})
    for path in paths:
        if not path.strip():
            raise InvalidArgument("VOLUME specified can not be an empty string")
        volumes[path.strip()] = {}
    config["Volumes"] = volumes


def _workdir(config: Json, text: str) -> None:
    path = _expanded(config, _one("WORKDIR", text))
    config["WorkingDir"] = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", path))


def _on_build(config: Json, text: str) -> None:
    word = _one("ONBUILD", text).split()[0].upper()
    if word == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{word} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _healthcheck(config: Json, text: str) -> None:
    check: dict[str, Any] = {}
    flags = {
        "--interval": "Interval",
        "--timeout": "Timeout",
        "--start-period": "StartPeriod",
        "--start-interval": "StartInterval",
    }
    while text.startswith("--"):
        word, _, text = text.partition(" ")
        text = text.strip()
        flag, _, value = word.partition("=")
        if flag in flags:
            try:
                check[flags[flag]] = durations.parse(value)
            except ValueError as error:
                raise InvalidArgument(str(error)) from None
            if check[flags[flag]] and check[flags[flag]] < _MILLISECOND:
                raise InvalidArgument(f"Interval {quote(flag[2:])} cannot be less than 1ms")
        elif flag == "--retries" and value.isdigit():
            check["Retries"] = int(value)
        else:
            raise InvalidArgument(f"unknown flag: {flag}" if flag != "--retries" else f"invalid --retries: {value}")
    kind, _, rest = text.partition(" ")
    rest = rest.strip()
    if kind.upper() == "NONE" and not rest:
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind.upper() != "CMD":
        raise InvalidArgument(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if not rest:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    parsed = _list(rest)
    config["Healthcheck"] = {"Test": ["CMD", *parsed] if parsed else ["CMD-SHELL", rest], **check}


_INSTRUCTIONS: dict[str, Callable[[Json, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
