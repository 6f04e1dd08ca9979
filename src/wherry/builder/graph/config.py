"""What instructions that make no layer do to an image's configuration, and how history tells of every instruction."""

import posixpath
from collections.abc import Sequence
from typing import Literal

from wherry.builder.language import commands as c
from wherry.values import durations
from wherry.values.gotext import quote
from wherry.values.jsontypes import Json

Style = Literal["classic", "buildkit"]
"""Whose words history has: the classic builder's, or BuildKit's."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
_ORDER = (
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce Env Cmd "
    "Healthcheck ArgsEscaped Image Volumes WorkingDir Entrypoint NetworkDisabled MacAddress OnBuild Labels StopSignal "
    "StopTimeout Shell"
).split()


def ordered(config: Json) -> Json:
    """The configuration with its keys in Docker's order, empty ones left out; unknown ones come last."""
    found = {key: config[key] for key in _ORDER if config.get(key) not in (None, "", [], {}, False)}
    return found | {key: value for key, value in config.items() if key not in _ORDER}


def environment(config: Json) -> dict[str, str]:
    """`Env` as a mapping."""
    return dict(entry.partition("=")[::2] for entry in config.get("Env") or [])


def shell(config: Json) -> list[str]:
    """What runs a text: `SHELL`, or `/bin/sh -c`."""
    return list(config.get("Shell") or DEFAULT_SHELL)


def workdir(config: Json, path: str) -> str:
    """A path as WORKDIR makes it absolute; one that is so already stays as it is written."""
    return path if path.startswith("/") else absolute(config.get("WorkingDir") or "/", path)


def absolute(base: str, path: str) -> str:
    """A path from a working directory; one slash in front, none at the end."""
    joined = posixpath.normpath(posixpath.join("/", base, path))
    return "/" + joined.lstrip("/")


def apply(config: Json, command: c.Command, *, first_cmd: bool) -> None:
    """Carry out an instruction that only changes the configuration.

    Args:
        config: changed in place; values in it are replaced, never changed, since stages share them.
        first_cmd: CMD did not stand in this stage yet: ENTRYPOINT takes away the base's.
    """
    match command:
        case c.Env():
            known = environment(config)
            known.update((pair.key, pair.value) for pair in command.pairs)
            config["Env"] = [f"{key}={value}" for key, value in known.items()]
        case c.Label():
            config["Labels"] = {**(config.get("Labels") or {}), **{pair.key: pair.value for pair in command.pairs}}
        case c.Cmd():
            config["Cmd"] = _words(config, command)
            config.pop("ArgsEscaped", None)
        case c.Entrypoint():
            config["Entrypoint"] = _words(config, command)
            if first_cmd:
                config.pop("Cmd", None)
        case c.User():
            config["User"] = command.user
        case c.Workdir():
            config["WorkingDir"] = workdir(config, command.path)
        case c.Expose():
            config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in command.ports}}
        case c.Volume():
            config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in command.volumes}}
        case c.Shell():
            config["Shell"] = list(command.shell)
        case c.StopSignal():
            config["StopSignal"] = command.signal
        case c.Healthcheck():
            config["Healthcheck"] = health(command)
        case c.Onbuild():
            config["OnBuild"] = [*(config.get("OnBuild") or []), command.expression]
        case _:
            return


def _words(config: Json, command: c.ShellForm) -> list[str]:
    if command.shell and command.cmdline:
        return [*shell(config), *command.cmdline]
    return list(command.cmdline)


def health(command: c.Healthcheck) -> Json:
    """HEALTHCHECK as Docker stores it."""
    found: Json = {"Test": list(command.test)}
    for key, value in (
        ("Interval", command.interval),
        ("Timeout", command.timeout),
        ("StartPeriod", command.start_period),
        ("StartInterval", command.start_interval),
        ("Retries", command.retries),
    ):
        if value:
            found[key] = value
    return found


# -- history


def told(command: c.Command, config: Json, style: Style, *, args: Sequence[str] = (), words: Sequence[str] = ()) -> str:
    """What history says of an instruction.

    Args:
        command: with its variables replaced.
        config: before the instruction.
        style: whose words.
        args: of RUN, the declared build arguments (`StageScope.arg_words`).
        words: of RUN, what is run.
    """
    if isinstance(command, c.Run):
        text = " ".join([*args, *words])
        return text if style == "classic" else f"RUN {text} # buildkit"
    if isinstance(command, c.Transfer) and style == "buildkit":
        words = [*command.sources, *(f"<<{file.name}" for file in command.files), command.dest]
        return f"{command.name.upper()} {_flags(command)}{' '.join(words)} # buildkit"
    if isinstance(command, c.Transfer):
        sources = " ".join([*command.sources, *(file.name for file in command.files)])
        origin = f"--from={command.from_} " if isinstance(command, c.Copy) and command.from_ else ""
        return f"{_nop(config)} {command.name.upper()} {origin}{_flags(command)}{sources} {command.dest} "
    text = _plain(command, config, style)
    if style == "classic":
        return f"{_nop(config)}{' ' if isinstance(command, c.Workdir) else '  '}{text}"
    return text


def _nop(config: Json) -> str:
    return f"{' '.join(shell(config))} #(nop)"


def _flags(command: c.Transfer) -> str:
    flags = "--parents " if isinstance(command, c.Copy) and command.parents else ""
    if command.chown:
        flags += f"--chown={command.chown} "
    if command.chmod:
        flags += f"--chmod={command.chmod} "
    return flags


def _plain(command: c.Command, config: Json, style: Style) -> str:
    match command:
        case c.Env() | c.Label():
            return f"{command.name.upper()} " + " ".join(f"{pair.key}={pair.value}" for pair in command.pairs)
        case c.Arg():
            return "ARG " + " ".join(p.key if p.value is None else f"{p.key}={p.value}" for p in command.args)
        case c.Cmd() | c.Entrypoint():
            return f"{command.name.upper()} [{' '.join(quote(word) for word in _words(config, command))}]"
        case c.Workdir():
            return f"WORKDIR {workdir(config, command.path)}"
        case c.Expose():
            if style == "classic":
                return "EXPOSE " + " ".join(port.removesuffix("/tcp") for port in command.ports)
            return "EXPOSE [" + " ".join(command.ports) + "]"
        case c.Volume():
            return f"VOLUME [{' '.join(command.volumes)}]"
        case c.Shell():
            return f"SHELL [{' '.join(command.shell)}]"
        case c.User():
            return f"USER {command.user}"
        case c.StopSignal():
            return f"STOPSIGNAL {command.signal}"
        case c.Onbuild():
            return f"ONBUILD {command.expression}"
        case c.Maintainer():
            return f"MAINTAINER {command.author}"
        case c.Healthcheck():
            return _health_text(command) if style == "classic" else _health_fields(command)
    return command.original


def _health_fields(command: c.Healthcheck) -> str:
    fields = {
        "Test": f"[{' '.join(command.test)}]",
        "Interval": durations.printed(command.interval),
        "Timeout": durations.printed(command.timeout),
        "StartPeriod": durations.printed(command.start_period),
        "StartInterval": durations.printed(command.start_interval),
        "Retries": str(command.retries),
    }
    return "HEALTHCHECK {" + " ".join(f"{key}:{value}" for key, value in fields.items()) + "}"


def _health_text(command: c.Healthcheck) -> str:
    test = " ".join(quote(word) for word in command.test)
    times = (command.interval, command.timeout, command.start_period, command.start_interval)
    shown = " ".join(f'"{durations.printed(value)}"' for value in times)
    return f"HEALTHCHECK &{{[{test}] {shown} '\\x{command.retries:02x}'}}"
