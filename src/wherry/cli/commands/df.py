"""`system df`: how much room images, containers, volumes and the build cache take."""

from wherry.cli.commands.common import TABLE_FORMAT
from wherry.cli.commands.images import ImageRow
from wherry.cli.commands.ps import ContainerRow
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, joined_labels, render
from wherry.cli.output import columns, out
from wherry.cli.reference import familiar
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TABLE = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_TITLES = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}


def _part(name: str) -> "Callable[[Any], Any]":
    return lambda row: row.item[name]


class UsageRow(Row):
    """What one kind of objects takes."""

    go_type = "*formatter.diskUsageImagesContext"
    fields = {name: _part(name) for name in _TITLES}  # noqa: RUF012 (the base says what it is)


def _usage(kind: str, total: int, active: int, size: int, reclaimable: int, *, share: bool = True) -> UsageRow:
    free = sizes.human(reclaimable)
    if share and size > 0:
        free += f" ({reclaimable * 100 // size}%)"
    return UsageRow(
        {
            "Type": kind,
            "TotalCount": str(total),
            "Active": str(active),
            "Size": sizes.human(size),
            "Reclaimable": free,
        }
    )


def _images(found: "dict[str, Any]") -> UsageRow:
    images = found.get("Images") or []
    size = found.get("LayersSize") or 0
    reclaimable = found.get("ImagesReclaimable")
    if reclaimable is None:
        reclaimable = size - sum(one["Size"] - one["SharedSize"] for one in images if one["Containers"])
    return _usage("Images", len(images), sum(one["Containers"] > 0 for one in images), size, reclaimable)


def _containers(found: "dict[str, Any]") -> UsageRow:
    containers = found.get("Containers") or []
    running = [one for one in containers if one["State"] in ("running", "paused", "restarting")]
    size = sum(one.get("SizeRw") or 0 for one in containers)
    used = sum(one.get("SizeRw") or 0 for one in running)
    return _usage("Containers", len(containers), len(running), size, size - used)


def _volumes(found: "dict[str, Any]") -> UsageRow:
    volumes = [(one, one["UsageData"]) for one in found.get("Volumes") or ()]
    size = sum(max(data["Size"], 0) for _, data in volumes)
    unused = sum(max(data["Size"], 0) for _, data in volumes if not data["RefCount"])
    return _usage("Local Volumes", len(volumes), sum(data["RefCount"] > 0 for _, data in volumes), size, unused)


def _cache(found: "dict[str, Any]") -> UsageRow:
    entries = found.get("BuildCache") or []
    own = [one for one in entries if not one["Shared"]]
    size = sum(one["Size"] for one in own)
    used = sum(one["Size"] for one in own if one["InUse"])
    return _usage("Build Cache", len(entries), sum(one["InUse"] for one in entries), size, size - used, share=False)


def _df(command: Invocation) -> None:
    found = command.client.call("GET", "/system/df")
    format_ = command["format"]
    if command["verbose"]:
        _verbose(found, format_)
        return
    render(
        format_,
        [make(found) for make in (_images, _containers, _volumes, _cache)],
        table=_TABLE,
        titles=_TITLES,
    )


# -- in detail


class _Image(ImageRow):
    go_type = "*formatter.imageContext"


class VolumeRow(Row):
    """A volume."""

    go_type = "*formatter.volumeContext"
    fields = {  # noqa: RUF012 (the base says what it is)
        "Availability": lambda _row: "N/A",
        "Driver": lambda row: row.item["Driver"],
        "Group": lambda _row: "N/A",
        "Labels": lambda row: joined_labels(row.item.get("Labels")),
        "Links": lambda row: str(row.item["UsageData"]["RefCount"]),
        "Mountpoint": lambda row: row.item["Mountpoint"],
        "Name": lambda row: row.item["Name"],
        "Scope": lambda row: row.item["Scope"],
        "Size": lambda row: sizes.human(row.item["UsageData"]["Size"]),
        "Status": lambda _row: "N/A",
    }


def _when(text: "str | None") -> str:
    from wherry.values import durations, times

    return durations.ago(times.parse(text) / 10**9) if text else ""


class CacheRow(Row):
    """A cached step."""

    go_type = "*formatter.buildCacheContext"
    fields = {  # noqa: RUF012 (the base says what it is)
        "CacheType": lambda row: row.item["Type"],
        "CreatedAt": lambda row: row.item["CreatedAt"],
        "CreatedSince": lambda row: _when(row.item["CreatedAt"]),
        "Description": lambda row: row.item["Description"],
        "ID": lambda row: (row.item["ID"][:12] if row.trunc else row.item["ID"]) + ("*" if row.item["InUse"] else ""),
        "InUse": lambda row: str(row.item["InUse"]).lower(),
        "LastUsedAt": lambda row: row.item.get("LastUsedAt") or "",
        "LastUsedSince": lambda row: _when(row.item.get("LastUsedAt")),
        "Parent": lambda row: ", ".join(row.item.get("Parents") or ()),
        "Shared": lambda row: str(row.item["Shared"]).lower(),
        "Size": lambda row: sizes.human(row.item["Size"], 3),
        "UsageCount": lambda row: str(row.item["UsageCount"]),
    }


_DETAILS = (
    (
        "Images",
        "Images space usage:\n\n",
        "REPOSITORY TAG IMAGE·ID CREATED SIZE SHARED·SIZE UNIQUE·SIZE CONTAINERS",
        "Repository Tag ID CreatedSince Size SharedSize UniqueSize Containers",
    ),
    (
        "Containers",
        "\nContainers space usage:\n\n",
        "CONTAINER·ID IMAGE COMMAND LOCAL·VOLUMES SIZE CREATED STATUS NAMES",
        "ID Image Command LocalVolumes Size RunningFor Status Names",
    ),
    ("Volumes", "\nLocal Volumes space usage:\n\n", "VOLUME·NAME LINKS SIZE", "Name Links Size"),
    (
        "BuildCache",
        "\nBuild cache usage: {}\n\n",
        "CACHE·ID CACHE·TYPE SIZE CREATED LAST·USED USAGE SHARED",
        "ID CacheType Size CreatedSince LastUsedSince UsageCount Shared",
    ),
)


def _rows(found: "dict[str, Any]", *, trunc: bool) -> "dict[str, list[Row]]":
    images = sorted(found.get("Images") or (), key=lambda one: -one["Created"])
    return {
        "Images": [_Image(_named(one), trunc=trunc) for one in images],
        "Containers": [ContainerRow({**one, "SizeRootFs": 0}, trunc=trunc) for one in found.get("Containers") or ()],
        "Volumes": [VolumeRow(one, trunc=trunc) for one in found.get("Volumes") or ()],
        "BuildCache": [CacheRow(one, trunc=trunc) for one in found.get("BuildCache") or ()],
    }


def _named(item: "dict[str, Any]") -> "dict[str, Any]":
    """One row for an image, whatever it is called: under its first name."""
    name = (item.get("RepoTags") or ["<none>:<none>"])[0]
    repository, _, tag = name.rpartition(":")
    return {
        **item,
        "repository": familiar(repository) if repository != "<none>" else repository,
        "tag": tag,
        "digest": "",
    }


def _verbose(found: "dict[str, Any]", format_: str) -> None:
    if format_ not in ("", "table"):
        _formatted(found, format_)
        return
    rows = _rows(found, trunc=True)
    for name, head, titles, fields in _DETAILS:
        out(head.format(_cache(found).item["Size"]))
        cells = [[title.replace("·", " ") for title in titles.split()]]
        cells += [[str(row.field(field)) for field in fields.split()] for row in rows[name]]
        out(columns(cells))


class _Whole(Row):
    """All of it, for a template of one's own."""

    go_type = "*formatter.diskUsageContext"
    fields = {name: _part(name) for name, *_ in _DETAILS}  # noqa: RUF012 (the base says what it is)


def _formatted(found: "dict[str, Any]", format_: str) -> None:
    from wherry.cli.failure import Failure
    from wherry.cli.govalues import to_json
    from wherry.cli.template import Template, TemplateError

    whole = {name: [row.as_json() for row in rows] for name, rows in _rows(found, trunc=False).items()}
    if format_ == "json":
        out("{" + ",".join(f'"{name}":{to_json(rows, escape_html=True)}' for name, rows in whole.items()) + "}")
        return
    try:
        out(Template(format_).execute(_Whole(whole)))
    except TemplateError as error:
        raise Failure(str(error)) from None


COMMANDS = {
    "system df": Command(
        "[OPTIONS]",
        "Show Wherry disk usage",
        _df,
        (
            Flag("format", "", "string", TABLE_FORMAT),
            Flag("verbose", "v", "bool", "Show detailed information on space usage"),
        ),
    )
}
