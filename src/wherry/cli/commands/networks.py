"""`network ls`: the networks that there are."""

from wherry.cli.commands.common import FORMAT
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, joined_labels, render, short_id
from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TITLES = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


_NETWORK_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "ID": lambda row: short_id(row.item["Id"]) if row.trunc else row.item["Id"],
    "Name": lambda row: row.item["Name"],
    "Driver": lambda row: row.item["Driver"],
    "Scope": lambda row: row.item["Scope"],
    "IPv4": lambda row: "true" if row.item.get("EnableIPv4") else "false",
    "IPv6": lambda row: "true" if row.item.get("EnableIPv6") else "false",
    "Internal": lambda row: "true" if row.item.get("Internal") else "false",
    "Labels": lambda row: joined_labels(row.item.get("Labels")),
    "CreatedAt": lambda row: times.printed(times.parse(row.item["Created"]), utc=True),
}


class NetworkRow(Row):
    """A network in a list."""

    go_type = "*network.networkContext"
    fields = _NETWORK_FIELDS


def _ls(command: Invocation) -> None:
    filters = command.values.filters()
    items = command.client.call("GET", "/networks", {"filters": filters or None})
    rows = [NetworkRow(item, trunc=not command["no-trunc"]) for item in sorted(items, key=lambda one: one["Name"])]
    format_ = command["format"]
    if command["quiet"] and format_ in ("", "table"):
        format_ = "{{.ID}}"
    render(
        format_,
        rows,
        table="{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        titles=_TITLES,
        raw="network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    )


COMMANDS = {
    "network ls": Command(
        "[OPTIONS]",
        "List networks",
        _ls,
        (
            Flag("filter", "f", "filter", 'Provide filter values (e.g. "driver=bridge")'),
            FORMAT,
            Flag("no-trunc", "", "bool", "Do not truncate the output"),
            Flag("quiet", "q", "bool", "Only display network IDs"),
        ),
        aliases=("network ls", "network list"),
    )
}
