"""`checkpoint create`, `ls` and `rm`: the processes of a running container on disk, for `start --checkpoint`."""

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import columns, line, out
from wherry.client.http import quote

_DIRECTORY = Flag("checkpoint-dir", "", "string", "Use a custom checkpoint storage directory")


def _create(command: Invocation) -> None:
    container, name = command.args
    request = {
        "CheckpointID": name,
        "CheckpointDir": command["checkpoint-dir"],
        "Exit": not command["leave-running"],
    }
    command.client.call("POST", f"/containers/{quote(container)}/checkpoints", body=request)
    line(name)


def _list(command: Invocation) -> None:
    path = f"/containers/{quote(command.args[0])}/checkpoints"
    found = command.client.call("GET", path, _query(command)) or ()
    out(columns([["CHECKPOINT NAME"], *([entry["Name"]] for entry in found)]))


def _remove(command: Invocation) -> None:
    container, name = command.args
    # a slash in a name would be one of the path's: then it names nothing
    path = f"/containers/{quote(container)}/checkpoints/{quote(name)}"
    command.client.call("DELETE", path, _query(command))


def _query(command: Invocation) -> "dict[str, str]":
    return {"dir": command["checkpoint-dir"]} if command["checkpoint-dir"] else {}


CREATE = Command(
    "[OPTIONS] CONTAINER CHECKPOINT",
    "Create a checkpoint from a running container",
    _create,
    (_DIRECTORY, Flag("leave-running", "", "bool", "Leave the container running after checkpoint")),
    arguments=(2, 2),
)
LIST = Command(
    "[OPTIONS] CONTAINER",
    "List checkpoints for a container",
    _list,
    (_DIRECTORY,),
    arguments=(1, 1),
    aliases=("checkpoint ls", "checkpoint list"),
)
REMOVE = Command(
    "[OPTIONS] CONTAINER CHECKPOINT",
    "Remove a checkpoint",
    _remove,
    (_DIRECTORY,),
    arguments=(2, 2),
    aliases=("checkpoint rm", "checkpoint remove"),
)
COMMANDS = {"checkpoint create": CREATE, "checkpoint ls": LIST, "checkpoint rm": REMOVE}
