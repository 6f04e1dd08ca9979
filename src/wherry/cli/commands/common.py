"""Flags and steps that many commands share."""

from wherry.cli.failure import joined
from wherry.cli.flags import Flag
from wherry.cli.output import line
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
