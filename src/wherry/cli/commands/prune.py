"""`container prune`: remove the containers that do not run."""

import os

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line, out
from wherry.cli.units import human_size

_WARNING = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "


def _agreed() -> bool:
    out(_WARNING)
    answer = os.read(0, 256).decode("utf-8", "replace")
    return answer.strip().lower() == "y"


def _prune(command: Invocation) -> None:
    if not command["force"] and not _agreed():
        return
    filters = command.values.filters()
    report = command.client.call("POST", "/containers/prune", {"filters": filters or None})
    deleted = report.get("ContainersDeleted") or []
    if deleted:
        line("Deleted Containers:")
        for id_ in deleted:
            line(id_)
        line("")
    line(f"Total reclaimed space: {human_size(report.get('SpaceReclaimed') or 0)}")


COMMANDS = {
    "container prune": Command(
        "[OPTIONS]",
        "Remove all stopped containers",
        _prune,
        (
            Flag("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
            Flag("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    )
}
