"""`image bootstrap`: a base image from the machine's own Debian packages."""

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.progress import show_progress


def _bootstrap(command: Invocation) -> None:
    response = command.client.request("POST", "/wherry/v1/bootstrap", {"name": command.args[0]})
    show_progress(response, quiet=command["quiet"])


COMMANDS = {
    "image bootstrap": Command(
        "[OPTIONS] busybox|debian:bookworm|debian:trixie",
        "Make a base image from this machine's Debian packages",
        _bootstrap,
        (Flag("quiet", "q", "bool", "Suppress the progress output"),),
        arguments=(1, 1),
    )
}
