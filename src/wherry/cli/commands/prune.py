"""`container prune`, `image prune`: remove what does not run, or what nobody uses."""

from wherry.cli.commands.common import agreed, deleted_images, show_deleted
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line
from wherry.values import sizes

TYPE_CHECKING = False

_CONTAINERS = "WARNING! This will remove all stopped containers."
_DANGLING = "WARNING! This will remove all dangling images."
_UNUSED = "WARNING! This will remove all images without at least one container associated to them."


def _prune(command: Invocation) -> None:
    if not command["force"] and not agreed(_CONTAINERS):
        return
    filters = command.values.filters()
    report = command.client.call("POST", "/containers/prune", {"filters": filters or None})
    show_deleted("Deleted Containers:", report.get("ContainersDeleted"))
    line(f"Total reclaimed space: {sizes.human(report.get('SpaceReclaimed') or 0)}")


def _prune_images(command: Invocation) -> None:
    if not command["force"] and not agreed(_UNUSED if command["all"] else _DANGLING):
        return
    filters = {**command.values.filters(), "dangling": ["false" if command["all"] else "true"]}
    report = command.client.call("POST", "/images/prune", {"filters": filters})
    show_deleted("Deleted Images:", deleted_images(report))
    line(f"Total reclaimed space: {sizes.human(report.get('SpaceReclaimed') or 0)}")


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
