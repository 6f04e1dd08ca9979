"""`exec`: one more process in a running container."""

from wherry.cli.attached import check_terminal
from wherry.cli.commands.common import DETACH_KEYS
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.run_config import read_pairs
from wherry.cli.run_flags import environment
from wherry.cli.streams import DETACHED, Session
from wherry.cli.terminal import parse_detach_keys, window_size
from wherry.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _exec(command: Invocation) -> int:
    client, name = command.client, command.args[0]
    tty, detach = command["tty"], command["detach"]
    stdin = command["interactive"] and not detach
    if command["detach-keys"]:
        parse_detach_keys(command["detach-keys"])
    try:
        env = [*read_pairs(command["env-file"], environment=True), *command["env"]]
    except ValueError as error:
        raise Failure(str(error)) from None
    config: dict[str, Any] = {
        "User": command["user"],
        "Privileged": command["privileged"],
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "DetachKeys": command["detach-keys"],
        "Env": env or None,
        "WorkingDir": command["workdir"],
        "Cmd": command.args[1:],
    }
    if stdin and tty:
        # that there is no such container matters more than that there is no terminal
        client.call("GET", f"/containers/{quote(name)}/json")
        check_terminal(stdin, tty)
    size = list(window_size()) if tty else [0, 0]
    if tty and size != [0, 0]:
        config["ConsoleSize"] = size
    id_ = client.call("POST", f"/containers/{quote(name)}/exec", None, config)["Id"]
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if "ConsoleSize" in config:
        start["ConsoleSize"] = size
    if detach:
        client.call("POST", f"/exec/{id_}/start", None, start)
        return 0
    connection, tail = client.hijack(f"/exec/{id_}/start", None, start)
    session = Session(connection, tail, tty=tty, stdin=stdin, output=True, detach_keys=command["detach-keys"])
    try:
        session.enter_terminal()
        if tty and size != [0, 0]:
            from wherry.cli.signals import follow_window

            session.resize = follow_window(client, f"/exec/{id_}")
        if session.run() == DETACHED:
            session.close()
            raise Failure("read escape sequence")
    finally:
        session.close()
    return int(client.call("GET", f"/exec/{id_}/json").get("ExitCode") or 0)


EXEC = Command(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    _exec,
    (
        Flag("detach", "d", "bool", "Detached mode: run command in the background"),
        DETACH_KEYS,
        Flag("env", "e", "list", "Set environment variables", check=environment),
        Flag("env-file", "", "list", "Read in a file of environment variables"),
        Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
        Flag("privileged", "", "bool", "Give extended privileges to the command"),
        Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
        Flag("user", "u", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        Flag("workdir", "w", "string", "Working directory inside the container"),
    ),
    arguments=(2, None),
    aliases=("container exec", "exec"),
    interspersed=False,
)
COMMANDS = {"exec": EXEC, "container exec": EXEC}
