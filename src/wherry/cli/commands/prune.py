"""`container prune`, `image prune`: remove what does not run, or what nobody uses."""

import os

from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line, out
from wherry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_CONTAINERS = "WARNING! This will remove all stopped containers."
_DANGLING = "WARNING! This will remove all dangling images."
_UNUSED = "WARNING! This will remove all images without at least one container associated to them."


def _agreed(warning: str) -> bool:
    out(f"{warning}\nAre you sure you want to continue? [y/N] ")
    answer = os.read(0, 256).decode("utf-8", "replace")
    return answer.strip().lower() == "y"


def _listed(title: str, names: "Iterable[str] | None") -> None:
    """Print what was deleted, with a title and a line behind it; nothing for nothing."""
    if names:
        line(title)
        for name in names:
            line(name)
        line("")


def _images(report: "dict[str, Any]") -> list[str]:
    return [
        f"{what.lower()}: {entry[what]}"
        for entry in report.get("ImagesDeleted") or ()
        for what in ("Untagged", "Deleted")
        if entry.get(what)
    ]


def _prune(command: Invocation) -> None:
    if not command["force"] and not _agreed(_CONTAINERS):
        return
    filters = command.values.filters()
    report = command.client.call("POST", "/containers/prune", {"filters": filters or None})
    _listed("Deleted Containers:", report.get("ContainersDeleted"))
    line(f"Total reclaimed space: {human_size(report.get('SpaceReclaimed') or 0)}")


def _prune_images(command: Invocation) -> None:
    if not command["force"] and not _agreed(_UNUSED if command["all"] else _DANGLING):
        return
    filters = {**command.values.filters(), "dangling": ["false" if command["all"] else "true"]}
    report = command.client.call("POST", "/images/prune", {"filters": filters})
    _listed("Deleted Images:", _images(report))
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
