"""`ps`: list containers."""

from wherry.cli.commands.common import FILTER, FORMAT
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Probe, Row, joined_labels, render, short_id, shorten
from wherry.cli.output import err
from wherry.cli.template import Template, TemplateError
from wherry.values import durations, sizes, times
from wherry.values.gotext import quote as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n"
    "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
)
_TITLES = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}


def _names(row: Row) -> str:
    names = [name.removeprefix("/") for name in row.item.get("Names") or ()]
    return ",".join(name for name in names if not row.trunc or "/" not in name)


def _image(row: Row) -> str:
    image = str(row.item.get("Image") or "")
    if not image:
        return "<no image>"
    if not row.trunc:
        return image
    if short_id(image) == short_id(str(row.item.get("ImageID") or "")):
        return short_id(image)
    name, at, _ = image.partition("@")
    return name if at and ":" in name.rpartition("/")[2] else image


def _command(row: Row) -> str:
    command = str(row.item.get("Command") or "")
    return quoted(shorten(command, 20) if row.trunc else command)


def _size(row: Row) -> str:
    own = sizes.human(row.item.get("SizeRw") or 0, 3)
    whole = row.item.get("SizeRootFs") or 0
    return f"{own} (virtual {sizes.human(whole, 3)})" if whole > 0 else own


def _mounts(row: Row) -> str:
    names = [mount.get("Name") or mount.get("Source") or "" for mount in row.item.get("Mounts") or ()]
    return ",".join(shorten(name, 15) if row.trunc else name for name in names)


def _local_volumes(row: Row) -> str:
    return str(sum(mount.get("Driver") == "local" for mount in row.item.get("Mounts") or ()))


def _networks(row: Row) -> str:
    return ",".join(sorted((row.item.get("NetworkSettings") or {}).get("Networks") or ()))


_CONTAINER_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "ID": lambda row: short_id(row.item["Id"]) if row.trunc else row.item["Id"],
    "Names": _names,
    "Image": _image,
    "Command": _command,
    "CreatedAt": lambda row: times.printed((row.item.get("Created") or 0) * 10**9),
    "RunningFor": lambda row: durations.ago(row.item.get("Created") or 0),
    "Ports": lambda row: displayed_ports(row.item.get("Ports") or []),
    "State": lambda row: row.item.get("State") or "",
    "Status": lambda row: row.item.get("Status") or "",
    "Size": _size,
    "Labels": lambda row: joined_labels(row.item.get("Labels")),
    "Mounts": _mounts,
    "LocalVolumes": _local_volumes,
    "Networks": _networks,
    "Platform": lambda _row: None,
}


class ContainerRow(Row):
    """A container in a list."""

    go_type = "*formatter.ContainerContext"
    fields = _CONTAINER_FIELDS


def displayed_ports(ports: "list[dict[str, Any]]") -> str:
    """The ports of a container on one line: runs of equal numbers as a range, mappings to other numbers after them."""
    shown: list[str] = []
    mapped: list[str] = []
    runs: dict[tuple[str, str], list[int]] = {}
    for port in sorted(
        ports,
        key=lambda one: (one["PrivatePort"], one.get("IP", ""), one.get("PublicPort", 0), one.get("Type", "")),
    ):
        private, address, protocol = port["PrivatePort"], port.get("IP", ""), port.get("Type", "")
        if address and port.get("PublicPort") != private:
            host = f"[{address}]" if ":" in address else address
            mapped.append(f"{host}:{port.get('PublicPort', 0)}->{private}/{protocol}")
            continue
        run = runs.get((address, protocol))
        if run is not None and run[1] + 1 == private:
            run[1] = private
            continue
        if run is not None:
            shown.append(_run(address, protocol, run))
        runs[address, protocol] = [private, private]
    shown += [_run(address, protocol, run) for (address, protocol), run in runs.items()]
    return ", ".join(shown + mapped)


def _run(address: str, protocol: str, run: "list[int]") -> str:
    numbers = str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{numbers}->{numbers}/{protocol}" if address else f"{numbers}/{protocol}"


def _ps(command: Invocation) -> None:
    values = command.values
    format_, size, last = values["format"], values["size"], values["last"]
    if format_ and values["quiet"]:
        err("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    if format_:
        probe = Probe(ContainerRow)
        try:
            template = Template(format_)
        except TemplateError as error:
            raise Failure(f"failed to parse template: {error}") from None
        try:
            template.execute(probe)
        except TemplateError as error:
            raise Failure(f"failed to execute template: {error}") from None
        if not values["quiet"] and "size" not in values.changed and "Size" in probe.used:
            size = True
    if values["latest"] and last == -1:
        last = 1
    filters = values.filters()
    items = command.client.call(
        "GET",
        "/containers/json",
        {
            "all": values["all"] or None,
            "limit": last if last > 0 else None,
            "size": size or None,
            "filters": filters or None,
        },
    )
    rows = [ContainerRow(item, trunc=not values["no-trunc"]) for item in items]
    if values["quiet"]:
        render("{{.ID}}", rows, table="", titles=_TITLES)
        return
    with_size = size
    render(
        format_,
        rows,
        table=_TABLE + ("\t{{.Size}}" if with_size else ""),
        titles=_TITLES,
        raw=_RAW + ("size: {{.Size}}\n" if with_size else ""),
    )


PS = Command(
    "[OPTIONS]",
    "List containers",
    _ps,
    (
        Flag("all", "a", "bool", "Show all containers (default shows just running)"),
        FILTER,
        FORMAT,
        Flag("last", "n", "int", "Show n last created containers (includes all states) (default -1)", -1),
        Flag("latest", "l", "bool", "Show the latest created container (includes all states)"),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only display container IDs"),
        Flag("size", "s", "bool", "Display total file sizes"),
    ),
    aliases=("container ls", "container list", "container ps", "ps"),
)
COMMANDS = {"ps": PS, "container ls": PS}
