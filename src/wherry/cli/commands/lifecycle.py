"""What happens to containers as a whole: stop, kill, restart, pause, unpause, wait, rm, rename."""

from wherry.cli.commands.common import for_each
from wherry.cli.failure import Failure, joined
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, line
from wherry.client.errors import ServerError
from wherry.client.http import quote
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.client.http import Pending

_SIGNAL = Flag("signal", "s", "string", "Signal to send to the container")
_TIMEOUT = Flag("timeout", "t", "int", "Seconds to wait before killing the container")
# the older name of --timeout, which scripts use
_TIME = Flag("time", "", "int", "Seconds to wait before killing the container (deprecated: use --timeout)", hidden=True)
_MANY = "CONTAINER [CONTAINER...]"


def _ending(verb: str) -> "Callable[[Invocation], None]":
    def run(command: Invocation) -> None:
        values = command.values
        if {"time", "timeout"} <= values.changed:
            raise Failure("conflicting options: cannot specify both --timeout and --time")
        if "time" in values.changed:
            err("Flag --time has been deprecated, use --timeout instead")
        name = "time" if "time" in values.changed else "timeout"
        query = {"signal": values["signal"], "t": values[name] if name in values.changed else None}
        for_each(
            values.args,
            lambda container: command.client.begin("POST", f"/containers/{quote(container)}/{verb}", query),
        )

    return run


def _simple(verb: str) -> "Callable[[Invocation], None]":
    def run(command: Invocation) -> None:
        for_each(command.args, lambda container: command.client.begin("POST", f"/containers/{quote(container)}/{verb}"))

    return run


def _kill(command: Invocation) -> None:
    query = {"signal": command["signal"]}
    for_each(
        command.args, lambda container: command.client.begin("POST", f"/containers/{quote(container)}/kill", query)
    )


def _rm(command: Invocation) -> None:
    force = command["force"]
    query = {"v": command["volumes"] or None, "link": command["link"] or None, "force": force or None}

    def send(name: str) -> "Pending":
        container = name.strip("/")
        if not container:
            raise WherryError("container name cannot be empty")
        pending: Pending = command.client.begin("DELETE", f"/containers/{quote(container)}", query)
        return pending

    def ignore(_name: str, error: WherryError) -> bool:
        # what is not there needs no removal
        if force and isinstance(error, ServerError) and error.status == 404:
            err(str(error))
            return True
        return False

    for_each(command.args, send, ignore)


def _wait(command: Invocation) -> None:
    errors = []
    for name in command.args:
        try:
            result = command.client.call("POST", f"/containers/{quote(name)}/wait")
        except WherryError as error:
            errors.append(str(error))
            continue
        line(str(result["StatusCode"]))
    joined(errors)


def _rename(command: Invocation) -> None:
    old, new = (name.strip() for name in command.args)
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    try:
        command.client.call("POST", f"/containers/{quote(old)}/rename", {"name": new})
    except WherryError as error:
        err(str(error))
        raise Failure(f"Error: failed to rename container named {old}") from None


def _command(
    verb: str,
    summary: str,
    run: "Callable[[Invocation], None]",
    flags: "tuple[Flag, ...]" = (),
    use: str = _MANY,
    arguments: "tuple[int, int | None]" = (1, None),
    aliases: "tuple[str, ...]" = (),
) -> Command:
    return Command(
        f"[OPTIONS] {use}" if flags else use,
        summary,
        run,
        flags,
        arguments=arguments,
        aliases=aliases or (f"container {verb}", verb),
    )


_ALL = {
    "stop": _command("stop", "Stop one or more running containers", _ending("stop"), (_SIGNAL, _TIMEOUT, _TIME)),
    "restart": _command("restart", "Restart one or more containers", _ending("restart"), (_SIGNAL, _TIMEOUT, _TIME)),
    "kill": _command("kill", "Kill one or more running containers", _kill, (_SIGNAL,)),
    "pause": _command("pause", "Pause all processes within one or more containers", _simple("pause")),
    "unpause": _command("unpause", "Unpause all processes within one or more containers", _simple("unpause")),
    "wait": _command("wait", "Block until one or more containers stop, then print their exit codes", _wait),
    "rename": _command("rename", "Rename a container", _rename, use="CONTAINER NEW_NAME", arguments=(2, 2)),
    "rm": _command(
        "rm",
        "Remove one or more containers",
        _rm,
        (
            Flag("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
            Flag("link", "l", "bool", "Remove the specified link"),
            Flag("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
        ),
        aliases=("container rm", "container remove", "rm"),
    ),
}
COMMANDS = {**_ALL, **{f"container {verb}": command for verb, command in _ALL.items()}}
