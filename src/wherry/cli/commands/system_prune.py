"""`system prune`: everything that nobody uses, of every kind."""

import os

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line, out
from wherry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _warning(command: Invocation) -> str:
    doomed = ["all stopped containers", "all networks not used by at least one container"]
    if command["volumes"]:
        doomed.append("all anonymous volumes not used by at least one container")
    if command["all"]:
        doomed += ["all images without at least one container associated to them", "all build cache"]
    else:
        doomed += ["all dangling images", "unused build cache"]
    text = "WARNING! This will remove:\n" + "".join(f"  - {what}\n" for what in doomed)
    filters = command.values["filter"]
    if filters:
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {one}\n" for one in sorted(f"{name}={value}" for name, value in filters))
    return f"{text}\nAre you sure you want to continue? [y/N] "


def _show(title: str, names: "list[str]") -> None:
    if names:
        line(title)
        for name in names:
            line(name)
        line("")


def _image_lines(entries: "list[dict[str, Any]]") -> "list[str]":
    return [
        f"{what.lower()}: {entry[what]}" for entry in entries for what in ("Untagged", "Deleted") if entry.get(what)
    ]


def _prune(command: Invocation) -> None:
    filters = command.values.filters()
    if command["volumes"] and "until" in filters:
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    if not command["force"]:
        out(_warning(command))
        if os.read(0, 256).decode("utf-8", "replace").strip().lower() != "y":
            return
    client = command.client

    def prune(kind: str, **extra: "Any") -> "dict[str, Any]":
        report: dict[str, Any] = client.call("POST", f"/{kind}/prune", {"filters": filters or None, **extra}) or {}
        return report

    freed = 0
    report = prune("containers")
    _show("Deleted Containers:", report.get("ContainersDeleted") or [])
    freed += report.get("SpaceReclaimed") or 0
    _show("Deleted Networks:", prune("networks").get("NetworksDeleted") or [])
    if command["volumes"]:
        report = prune("volumes")
        _show("Deleted Volumes:", report.get("VolumesDeleted") or [])
        freed += report.get("SpaceReclaimed") or 0
    report = prune("images", filters={**filters, "dangling": ["false" if command["all"] else "true"]})
    _show("Deleted Images:", _image_lines(report.get("ImagesDeleted") or []))
    freed += report.get("SpaceReclaimed") or 0
    report = prune("build", all=command["all"] or None)
    _show("Deleted build cache objects:", report.get("CachesDeleted") or [])
    freed += report.get("SpaceReclaimed") or 0
    line(f"Total reclaimed space: {human_size(freed)}")


COMMANDS = {
    "system prune": Command(
        "[OPTIONS]",
        "Remove unused data",
        _prune,
        (
            Flag("all", "a", "bool", "Remove all unused images not just dangling ones"),
            Flag("filter", "", "filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
            Flag("force", "f", "bool", "Do not prompt for confirmation"),
            Flag("volumes", "", "bool", "Prune anonymous volumes"),
        ),
    )
}
