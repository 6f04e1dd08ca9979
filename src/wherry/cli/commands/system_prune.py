"""`system prune`: everything that nobody uses, of every kind."""

from wherry.cli.commands.common import agreed, deleted_images, show_deleted
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line
from wherry.values import sizes

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
    return text


def _prune(command: Invocation) -> None:
    filters = command.values.filters()
    if command["volumes"] and "until" in filters:
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    if not command["force"] and not agreed(_warning(command)):
        return
    client = command.client

    def prune(kind: str, **extra: "Any") -> "dict[str, Any]":
        report: dict[str, Any] = client.call("POST", f"/{kind}/prune", {"filters": filters or None, **extra}) or {}
        return report

    freed = 0
    report = prune("containers")
    show_deleted("Deleted Containers:", report.get("ContainersDeleted"))
    freed += report.get("SpaceReclaimed") or 0
    show_deleted("Deleted Networks:", prune("networks").get("NetworksDeleted"))
    if command["volumes"]:
        report = prune("volumes")
        show_deleted("Deleted Volumes:", report.get("VolumesDeleted"))
        freed += report.get("SpaceReclaimed") or 0
    report = prune("images", filters={**filters, "dangling": ["false" if command["all"] else "true"]})
    show_deleted("Deleted Images:", deleted_images(report))
    freed += report.get("SpaceReclaimed") or 0
    report = prune("build", all=command["all"] or None)
    show_deleted("Deleted build cache objects:", report.get("CachesDeleted"))
    freed += report.get("SpaceReclaimed") or 0
    line(f"Total reclaimed space: {sizes.human(freed)}")


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
