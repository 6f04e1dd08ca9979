"""`start`: one or more, or one to watch."""

from wherry.cli.attached import attach, exit_status, expect_exit, follow
from wherry.cli.commands.common import DETACH_KEYS
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.healthy import WAIT_FLAGS, wait_healthy
from wherry.cli.output import err, line
from wherry.client.http import quote
from wherry.errors import WherryError


def _start(command: Invocation) -> int:
    if command["detach-keys"]:
        from wherry.cli.terminal import parse_detach_keys

        parse_detach_keys(command["detach-keys"])
    if command["attach"] or command["interactive"]:
        if command["wait"]:
            raise Failure("conflicting options: cannot specify both --wait and --attach")
        if len(command.args) > 1:
            raise Failure("you cannot start and attach multiple containers at once")
        return _start_attached(command, command.args[0])
    if command["checkpoint"]:
        if len(command.args) > 1:
            raise Failure("you cannot restore multiple containers at once")
        # no name is printed, as by Docker's command
        command.client.call("POST", f"/containers/{quote(command.args[0])}/start", _query(command))
        return _wait(command)
    failed = []
    for name in command.args:
        try:
            command.client.call("POST", f"/containers/{quote(name)}/start")
        except WherryError as error:
            err(str(error))
            failed.append(name)
            continue
        line(name)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return _wait(command)


def _wait(command: Invocation) -> int:
    if command["wait"]:
        for name in command.args:
            wait_healthy(command.client, name, name, command["wait-timeout"])
    return 0


def _query(command: Invocation) -> "dict[str, str]":
    return {name: command[name] for name in ("checkpoint", "checkpoint-dir") if command[name]}


def _start_attached(command: Invocation, name: str) -> int:
    client = command.client
    container = client.call("GET", f"/containers/{quote(name)}/json")
    id_, tty = container["Id"], container["Config"]["Tty"]
    forwarder = None
    if not tty:
        from wherry.cli.signals import Forwarder

        forwarder = Forwarder(client, id_)
    stdin = command["interactive"] and container["Config"]["OpenStdin"]
    session = attach(client, id_, tty=tty, stdin=stdin, stdout=True, stderr=True, detach_keys=command["detach-keys"])
    try:
        removed = container["HostConfig"]["AutoRemove"]
        waiting = expect_exit(client, id_, removed=removed)
        session.enter_terminal()
        try:
            client.call("POST", f"/containers/{quote(id_)}/start", _query(command))
        except WherryError:
            session.close()
            if forwarder is not None:
                forwarder.stop()
            if removed:
                exit_status(waiting)
            raise
        if forwarder is not None:
            forwarder.started()
    except BaseException:
        session.close()
        raise
    return follow(client, id_, session, waiting, tty=tty, output=True)


START = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    _start,
    (
        Flag("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"),
        Flag("checkpoint", "", "string", "Restore from this checkpoint"),
        Flag("checkpoint-dir", "", "string", "Use a custom checkpoint storage directory"),
        DETACH_KEYS,
        Flag("interactive", "i", "bool", "Attach container's STDIN"),
        *WAIT_FLAGS,
    ),
    arguments=(1, None),
    aliases=("container start", "start"),
)
COMMANDS = {"start": START, "container start": START}
