"""`proxy ls`, `proxy inspect`, `proxy stats`: services behind HAProxy."""

from wherry.cli.commands.common import FORMAT, INSPECT_FORMAT
from wherry.cli.failure import Failure, joined
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, render
from wherry.cli.output import out
from wherry.errors import WherryError
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SERVICES = "/wherry/v1/proxy/services"
_TITLES = {
    "Name": "NAME",
    "Mode": "MODE",
    "Publish": "PUBLISHED",
    "Hosts": "HOSTS",
    "Path": "PATH",
    "Ready": "READY",
    "Error": "ERROR",
}
_STATISTICS_TITLES = {
    "Service": "SERVICE",
    "Member": "CONTAINER",
    "Status": "STATUS",
    "Sessions": "SESSIONS",
    "Total": "TOTAL",
    "Rate": "RATE",
    "Traffic": "IN / OUT",
    "Errors": "ERRORS",
    "Retries": "RETRIES",
}


def _plain(name: str) -> "Callable[[Any], Any]":
    return lambda row: row.item[name]


_SERVICE_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "Name": lambda row: row.item["Name"],
    "Mode": lambda row: row.item["Mode"],
    "Publish": lambda row: row.item["Publish"],
    "Hosts": lambda row: ",".join(row.item["Hosts"]) or "*",
    "Path": lambda row: row.item["Path"] or "/",
    "Ready": lambda row: f"{row.item['Ready']}/{row.item['Containers']}",
    "Error": lambda row: row.item["Error"],
}

_STATISTICS_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    **{
        name: _plain(name) for name in ("Service", "Member", "Status", "Sessions", "Total", "Rate", "Errors", "Retries")
    },
    "Traffic": lambda row: f"{sizes.human(row.item['BytesIn'])} / {sizes.human(row.item['BytesOut'])}",
}


class ServiceRow(Row):
    """A service in a list."""

    go_type = "*proxy.serviceContext"
    fields = _SERVICE_FIELDS


class StatisticsRow(Row):
    """What a service, or one of its containers, has done."""

    go_type = "*proxy.statsContext"
    fields = _STATISTICS_FIELDS


def _ls(command: Invocation) -> None:
    items = command.client.call("GET", _SERVICES)
    format_ = "{{.Name}}" if command["quiet"] and command["format"] in ("", "table") else command["format"]
    table = "{{.Name}}\t{{.Mode}}\t{{.Publish}}\t{{.Hosts}}\t{{.Path}}\t{{.Ready}}\t{{.Error}}"
    render(format_, [ServiceRow(item) for item in items], table=table, titles=_TITLES)


def _inspect(command: Invocation) -> None:
    from wherry.cli.jsontext import indented
    from wherry.cli.template import Template, TemplateError
    from wherry.client.quickjson import loads

    found: list[bytes] = []
    errors: list[str] = []
    for name in command.args:
        try:
            found.append(command.client.request("GET", "/wherry/v1/proxy/service", {"name": name}).read().strip())
        except WherryError as error:
            errors.append(str(error))
    format_ = command["format"]
    if format_ in ("", "json"):
        out(indented(b"[" + b",".join(found) + b"]") + "\n")
    else:
        try:
            template = Template(format_)
            out("".join(f"{template.execute(loads(item))}\n" for item in found))
        except TemplateError as error:
            raise Failure(f"template parsing error: {error}") from None
    joined(errors)


def _stats(command: Invocation) -> None:
    items = command.client.call("GET", "/wherry/v1/proxy/statistics")
    names = set(command.args)
    rows = [StatisticsRow(item) for item in items if not names or item["Service"] in names]
    fields = ("Service", "Member", "Status", "Sessions", "Total", "Rate", "Traffic", "Errors", "Retries")
    table = "\t".join(f"{{{{.{field}}}}}" for field in fields)
    render(command["format"], rows, table=table, titles=_STATISTICS_TITLES)


COMMANDS = {
    "proxy ls": Command(
        "[OPTIONS]",
        "List services",
        _ls,
        (FORMAT, Flag("quiet", "q", "bool", "Only display names")),
        aliases=("proxy ls", "proxy list"),
    ),
    "proxy inspect": Command(
        "[OPTIONS] SERVICE [SERVICE...]",
        "Display detailed information on one or more services",
        _inspect,
        (INSPECT_FORMAT,),
        arguments=(1, None),
    ),
    "proxy stats": Command(
        "[OPTIONS] [SERVICE...]",
        "Display what services and their containers have done",
        _stats,
        (FORMAT,),
        arguments=(0, None),
    ),
}
