"""Flags and steps that many commands share."""

from wherry.cli.failure import joined
from wherry.cli.flags import Flag
from wherry.cli.output import line
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from wherry.client.http import Pending

_FORMATTING = (
    "Format output using a custom template:\n"
    "{table}"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)
TABLE_FORMAT = _FORMATTING.format(
    table="'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
)
FORMAT = Flag("format", "", "string", TABLE_FORMAT)
INSPECT_FORMAT = Flag("format", "f", "string", _FORMATTING.format(table=""))
FILTER = Flag("filter", "f", "filter", "Filter output based on conditions provided")
DETACH_KEYS = Flag("detach-keys", "", "string", "Override the key sequence for detaching a container")


def agreed(warning: str) -> bool:
    """Whether the person at standard input says yes to what the warning says."""
    from wherry.cli.prompt import ask

    return ask(f"{warning}\nAre you sure you want to continue? [y/N] ").lower() == "y"


def show_deleted(title: str, names: "Iterable[str] | None") -> None:
    """Print what was deleted, with a title and a line behind it; nothing for nothing."""
    if names:
        line(title)
        for name in names:
            line(name)
        line("")


def deleted_images(report: "dict[str, Any]") -> "list[str]":
    """The lines that say which names and layers of images went; takes the engine's report."""
    return [
        f"{what.lower()}: {entry[what]}"
        for entry in report.get("ImagesDeleted") or ()
        for what in ("Untagged", "Deleted")
        if entry.get(what)
    ]


def for_each(
    names: "Sequence[str]",
    send: "Callable[[str], Pending]",
    ignore: "Callable[[str, WherryError], bool] | None" = None,
) -> None:
    """One request for each name, all at work at the same time; print the names that went well, in their order.

    Args:
        names: containers as they were named.
        send: sends one request.
        ignore: judges an error: true when it was dealt with.

    Raises:
        Failure: the messages of those that failed.
    """
    errors: list[str] = []
    sent: list[tuple[str, Any]] = []
    for name in names:
        try:
            sent.append((name, send(name)))
        except WherryError as error:
            sent.append((name, error))
    for name, pending in sent:
        try:
            if isinstance(pending, WherryError):
                raise pending
            pending.finish().check().read()
        except WherryError as error:
            if ignore is None or not ignore(name, error):
                errors.append(str(error))
            continue
        line(name)
    joined(errors)
