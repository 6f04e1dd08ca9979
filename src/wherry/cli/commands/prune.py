"""`container prune` and `image prune`: remove what does not run, or what nobody uses."""

import os

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line, out
from wherry.cli.units import human_size

_CONTAINERS = "WARNING! This will remove all stopped containers."
_DANGLING = "WARNING! This will remove all dangling images."
_UNUSED = "WARNING! This will remove all images without at least one container associated to them."


def _agreed(warning: str) -> bool:
    out(f"{warning}\nAre you sure you want to continue? [y/N] ")
    answer = os.read(0, 256).decode("utf-8", "replace")
    return answer.strip().lower() == "y"


def _prune(command: Invocation) -> None:
    if not command["force"] and not _agreed(_CONTAINERS):
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


def _prune_images(command: Invocation) -> None:
    if not command["force"] and not _agreed(_UNUSED if command["all"] else _DANGLING):
        return
    filters = {**command.values.filters(), "dangling": ["false" if command["all"] else "true"]}
    report = command.client.call("POST", "/images/prune", {"filters": filters})
    deleted = report.get("ImagesDeleted") or []
    if deleted:
        line("Deleted Images:")
        for entry in deleted:
            for what in ("Untagged", "Deleted"):
                if entry.get(what):
                    line(f"{what.lower()}: {entry[what]}")
        line("")
    line(f"Total reclaimed space: {human_size(report.get('SpaceReclaimed') or 0)}")


_FILTER = Flag("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")')
_FORCE = Flag("force", "f", "bool", "Do not prompt for confirmation")
COMMANDS = {
    "container prune": Command("[OPTIONS]", "Remove all stopped containers", _prune, (_FILTER, _FORCE)),
    "image prune": Command(
        "[OPTIONS]",
        "Remove unused images",
        _prune_images,
        (Flag("all", "a", "bool", "Remove all unused images, not just dangling ones"), _FILTER, _FORCE),
    ),
}
