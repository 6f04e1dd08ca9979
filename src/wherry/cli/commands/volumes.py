"""`volume create`, `inspect` (in `inspect`), `ls`, `prune`, `rm`."""

import os

from wherry.cli.commands.common import FORMAT, agreed, for_each, show_deleted
from wherry.cli.failure import Failure
from wherry.cli.files import open_source, save
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, joined_labels, render
from wherry.cli.output import line
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NOT_TOLD = "N/A"


def _pairs(values: "list[str]") -> "dict[str, str]":
    return dict(value.partition("=")[::2] for value in values)


def _create(command: Invocation) -> None:
    name = command["name"]
    if command.args:
        if name:
            raise Failure("conflicting options: either specify --name or provide positional arg, not both")
        name = command.args[0]
    for option in command["opt"]:
        if "=" not in option:
            raise Failure(f'invalid argument "{option}" for "-o, --opt" flag: must be formatted as key=value')
    body = {
        "Name": name,
        "Driver": command["driver"],
        "DriverOpts": _pairs(command["opt"]),
        "Labels": _pairs(command["label"]),
    }
    line(command.client.call("POST", "/volumes/create", body=body)["Name"])


_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "Name": lambda row: row.item["Name"],
    "Driver": lambda row: row.item["Driver"],
    "Scope": lambda row: row.item["Scope"],
    "Mountpoint": lambda row: row.item["Mountpoint"],
    "Labels": lambda row: joined_labels(row.item.get("Labels")),
    "Links": lambda row: _usage(row, "RefCount", str),
    "Size": lambda row: _usage(row, "Size", sizes.human),
    "Availability": lambda _: _NOT_TOLD,
    "Group": lambda _: _NOT_TOLD,
    "Status": lambda _: _NOT_TOLD,
}
_TITLES = {name: name.upper() for name in _FIELDS} | {"Name": "VOLUME NAME"}


def _usage(row: "Row", key: str, shown: "Callable[[Any], str]") -> str:
    usage = row.item.get("UsageData")
    return shown(usage[key]) if usage else _NOT_TOLD


class VolumeRow(Row):
    """A volume in a list."""

    go_type = "*formatter.volumeContext"
    fields = _FIELDS


def _ls(command: Invocation) -> None:
    filters = command.values.filters()
    items = command.client.call("GET", "/volumes", {"filters": filters or None})["Volumes"] or []
    format_ = command["format"]
    if command["quiet"] and format_ in ("", "table"):
        format_ = "{{.Name}}"
    render(
        format_,
        [VolumeRow(item) for item in sorted(items, key=lambda one: _natural(one["Name"]))],
        table="{{.Driver}}\t{{.Name}}",
        titles=_TITLES,
        raw="name: {{.Name}}\ndriver: {{.Driver}}\n",
    )


def _natural(name: str) -> "list[tuple[int, int, str]]":
    """A key by which `v9` comes before `v20`, as Docker lists names."""
    parts: list[tuple[int, int, str]] = []
    text = ""
    for character in name + "\0":
        if text and (character.isdigit() != text[-1].isdigit() or character == "\0"):
            parts.append((0, int(text), "") if text.isdigit() else (1, 0, text))
            text = ""
        text += character
    return parts


_WHICH = {False: "anonymous local volumes", True: "all local volumes"}


def _prune(command: Invocation) -> None:
    everything = command["all"]
    filters = command.values.filters()
    if everything:
        if "all" in filters:
            raise Failure("conflicting options: cannot specify both --all and --filter all=1")
        filters["all"] = ["true"]
    if not command["force"]:
        what = _WHICH[bool(filters.get("all"))]
        if not agreed(f"WARNING! This will remove {what} not used by at least one container."):
            return
    report = command.client.call("POST", "/volumes/prune", {"filters": filters or None})
    show_deleted("Deleted Volumes:", report.get("VolumesDeleted"))
    line(f"Total reclaimed space: {sizes.human(report.get('SpaceReclaimed') or 0)}")


def _labels(command: Invocation) -> str:
    from wherry.client.http import quote

    return "".join(f"&label={quote(label)}" for label in command["label"])


def _export(command: Invocation) -> None:
    from wherry.client.http import target

    path = command["output"]
    if not path and os.isatty(1):
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    response = command.client.request("GET", target("/wherry/v1/volumes/export", {"name": command.args[0]}))
    save(response, path)


def _import(command: Invocation) -> None:
    from wherry.client.http import target

    name, source = command.args
    fd = 0 if source == "-" else open_source(source)
    path = target("/wherry/v1/volumes/import", {"name": name}) + _labels(command)
    headers = {"Content-Type": "application/x-tar"}
    line(command.client.request("POST", path, upload=fd, headers=headers).json()["Name"])


def _clone(command: Invocation) -> None:
    from wherry.client.http import target

    source, name = command.args
    path = target("/wherry/v1/volumes/clone", {"from": source, "name": name}) + _labels(command)
    line(command.client.call("POST", path)["Name"])


def _rm(command: Invocation) -> None:
    from wherry.client.http import quote

    query = {"force": command["force"] or None}
    for_each(command.args, lambda name: command.client.begin("DELETE", f"/volumes/{quote(name)}", query))


_LABEL = Flag("label", "", "list", "Set metadata for the new volume")
COMMANDS = {
    "volume clone": Command(
        "[OPTIONS] VOLUME NEW_VOLUME",
        "Make a volume with the content of another. Stop, or pause, what writes to it first",
        _clone,
        (_LABEL,),
        arguments=(2, 2),
    ),
    "volume export": Command(
        "[OPTIONS] VOLUME",
        "Write the content of a volume as a tar archive (streamed to STDOUT by default)",
        _export,
        (Flag("output", "o", "string", "Write to a file, instead of STDOUT"),),
        arguments=(1, 1),
    ),
    "volume import": Command(
        "[OPTIONS] VOLUME FILE|-",
        "Make a volume of a tar archive",
        _import,
        (_LABEL,),
        arguments=(2, 2),
    ),
    "volume create": Command(
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        _create,
        (
            Flag("driver", "d", "string", 'Specify volume driver name (default "local")', "local"),
            Flag("label", "", "list", "Set metadata for a volume"),
            Flag("name", "", "string", "Specify volume name", hidden=True),
            Flag("opt", "o", "map", "Set driver specific options (default map[])"),
        ),
        arguments=(0, 1),
    ),
    "volume ls": Command(
        "[OPTIONS]",
        "List volumes",
        _ls,
        (
            Flag("filter", "f", "filter", 'Provide filter values (e.g. "dangling=true")'),
            FORMAT,
            Flag("quiet", "q", "bool", "Only display volume names"),
        ),
        aliases=("volume ls", "volume list"),
    ),
    "volume prune": Command(
        "[OPTIONS]",
        "Remove unused local volumes",
        _prune,
        (
            Flag("all", "a", "bool", "Remove all unused volumes, not just anonymous ones"),
            Flag("filter", "", "filter", 'Provide filter values (e.g. "label=<label>")'),
            Flag("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    ),
    "volume rm": Command(
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        _rm,
        (Flag("force", "f", "bool", "Force the removal of one or more volumes"),),
        arguments=(1, None),
        aliases=("volume rm", "volume remove"),
    ),
}
