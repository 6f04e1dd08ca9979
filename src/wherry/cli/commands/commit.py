"""What a container changed: `commit`, `diff`."""

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line
from wherry.cli.reference import InvalidName, split
from wherry.client.http import quote, target

_LETTERS = {0: "C", 1: "A", 2: "D"}


def _commit(command: Invocation) -> None:
    repository = tag = ""
    if len(command.args) > 1:
        try:
            repository, tag, digest = split(command.args[1])
        except InvalidName as error:
            raise Failure(str(error)) from None
        if digest:
            raise Failure("refusing to create a tag with a digest reference")
    query = {
        "container": command.args[0],
        "repo": repository,
        "tag": tag,
        "comment": command["message"],
        "author": command["author"],
        "pause": None if command["pause"] else "0",
    }
    path = target("/commit", query) + "".join(f"&changes={quote(change)}" for change in command["change"])
    line(command.client.call("POST", path)["Id"])


def _diff(command: Invocation) -> None:
    name = command.args[0]
    if not name:
        raise Failure("Container name cannot be empty")
    for change in command.client.call("GET", f"/containers/{quote(name)}/changes") or ():
        line(f"{_LETTERS[change['Kind']]} {change['Path']}")


COMMIT = Command(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    _commit,
    (
        Flag("author", "a", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        Flag("message", "m", "string", "Commit message"),
        Flag("pause", "p", "bool", "Pause container during commit (default true)", True),
    ),
    arguments=(1, 2),
    aliases=("container commit", "commit"),
)
DIFF = Command(
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    _diff,
    arguments=(1, 1),
    aliases=("container diff", "diff"),
)
_ALL = {"commit": COMMIT, "diff": DIFF}
COMMANDS = {**_ALL, **{f"container {name}": command for name, command in _ALL.items()}}
