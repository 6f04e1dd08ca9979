"""Images: `images`, `rmi`, `tag`, `history`."""

from wherry.cli.commands.common import FILTER, FORMAT
from wherry.cli.failure import Failure, joined
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.formatter import Row, render, short_id, shorten
from wherry.cli.output import line
from wherry.cli.reference import InvalidName, familiar, split
from wherry.client.errors import ServerError
from wherry.client.http import quote
from wherry.errors import WherryError
from wherry.values import durations, sizes, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NONE = "<none>"
_TITLES = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}


def _shared(row: Row) -> str:
    size = row.item.get("SharedSize", -1)
    return "N/A" if size == -1 else sizes.human(size)


def _unique(row: Row) -> str:
    shared, size = row.item.get("SharedSize", -1), row.item.get("Size", 0)
    return "N/A" if shared == -1 or size == -1 else sizes.human(size - shared)


def _containers(row: Row) -> str:
    count = row.item.get("Containers", -1)
    return "N/A" if count == -1 else str(count)


_IMAGE_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "ID": lambda row: short_id(row.item["Id"]) if row.trunc else row.item["Id"],
    "Repository": lambda row: row.item["repository"],
    "Tag": lambda row: row.item["tag"],
    "Digest": lambda row: row.item["digest"],
    "CreatedSince": lambda row: durations.ago(row.item["Created"]) if row.item.get("Created", 0) > 0 else "N/A",
    "CreatedAt": lambda row: times.printed(row.item.get("Created", 0) * 10**9),
    "Size": lambda row: sizes.human(row.item.get("Size", 0), 3),
    "Containers": _containers,
    "VirtualSize": lambda row: sizes.human(row.item.get("Size", 0)),
    "SharedSize": _shared,
    "UniqueSize": _unique,
}


class ImageRow(Row):
    """An image under one of its names."""

    go_type = "*formatter.imageContext"
    fields = _IMAGE_FIELDS


def _named(items: "list[dict[str, Any]]", trunc: bool, digests: bool) -> "list[ImageRow]":
    rows: list[ImageRow] = []

    def add(item: "dict[str, Any]", repository: str, tag: str = _NONE, digest: str = _NONE) -> None:
        rows.append(ImageRow({**item, "repository": repository, "tag": tag, "digest": digest}, trunc=trunc))

    for item in items:
        tags: dict[str, list[str]] = {}
        sums: dict[str, list[str]] = {}
        for name in item.get("RepoTags") or ():
            repository, _, tag = name.rpartition(":")
            if repository and repository != _NONE:
                tags.setdefault(familiar(repository), []).append(tag)
        for name in item.get("RepoDigests") or ():
            repository, _, digest = name.partition("@")
            if repository != _NONE:
                sums.setdefault(familiar(repository), []).append(digest)
        if not tags and not sums:
            add(item, _NONE)
            continue
        for repository, names in tags.items():
            known = sums.pop(repository, [])
            for digest in known if digests and known else (_NONE,):
                for tag in names:
                    add(item, repository, tag, digest)
        for repository, known in sums.items():
            for digest in known if digests else (_NONE,):
                add(item, repository, _NONE, digest)
    return rows


def _images(command: Invocation) -> None:
    values = command.values
    filters = values.filters()
    if values.args:
        filters.setdefault("reference", []).append(values.args[0])
    format_ = values["format"]
    tree = values["tree"]
    if tree:
        for flag, shown in (
            ("quiet", "quiet"),
            ("no-trunc", "no-trunc"),
            ("digests", "show-digest"),
            ("format", "format"),
        ):
            if values[flag]:
                raise Failure(f"--{shown} is not yet supported with --tree")
    items = command.client.call(
        "GET",
        "/images/json",
        {"all": values["all"] or None, "filters": filters or None, "manifests": tree or None},
    )
    trunc = not values["no-trunc"]
    items.sort(key=lambda item: -item.get("Created", 0))
    if tree:
        from wherry.cli.commands.image_tree import show

        show(items, untagged=values["all"])
        return
    if values["quiet"]:
        rows = _named(items, trunc, values["digests"])
        render(format_ if format_ and format_ != "table" else "{{.ID}}", rows, table="{{.ID}}", titles=_TITLES)
        return
    digests = values["digests"]
    table = "{{.Repository}}\t{{.Tag}}\t" + ("{{.Digest}}\t" if digests else "")
    raw = "repository: {{.Repository}}\ntag: {{.Tag}}\n" + ("digest: {{.Digest}}\n" if digests else "")
    render(
        format_,
        _named(items, trunc, digests or "{{.Digest}}" in format_),
        table=table + "{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
        titles=_TITLES,
        raw=raw + "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    )


def _rmi(command: Invocation) -> None:
    errors: list[str] = []
    missing_only = True
    for name in command.args:
        try:
            removed = command.client.call(
                "DELETE",
                f"/images/{quote(name, '/:@')}",
                {"force": command["force"] or None, "noprune": command["no-prune"] or None},
            )
        except WherryError as error:
            missing_only = missing_only and isinstance(error, ServerError) and error.status == 404
            errors.append(str(error))
            continue
        for item in removed:
            for what in ("Deleted", "Untagged"):
                if item.get(what):
                    line(f"{what}: {item[what]}")
    if errors and command["force"] and missing_only:
        from wherry.cli.output import err

        err("\n".join(errors))
        return
    joined(errors)


def _tag(command: Invocation) -> None:
    source, target = command.args
    try:
        repository, tag, digest = split(target)
    except InvalidName as error:
        raise Failure(f'Error parsing reference: "{target}" is not a valid repository/tag: {error}') from None
    if digest:
        raise Failure("refusing to create a tag with a digest reference")
    command.client.call("POST", f"/images/{quote(source, '/:@')}/tag", {"repo": repository, "tag": tag or "latest"})


_HISTORY_TITLES = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def _created_by(row: Row) -> str:
    text = str(row.item.get("CreatedBy") or "").replace("\t", " ")
    return shorten(text, 45) if row.trunc else text


_HISTORY_FIELDS: "dict[str, Callable[[Any], Any]]" = {
    "ID": lambda row: short_id(row.item["Id"]) if row.trunc else row.item["Id"],
    "CreatedSince": lambda row: durations.ago(row.item["Created"]) if row.item.get("Created", 0) > 0 else "N/A",
    "CreatedAt": lambda row: times.local(row.item["Created"]) if row.item.get("Created", 0) > 0 else "",
    "CreatedBy": _created_by,
    "Size": lambda row: sizes.human(row.item["Size"], 3) if row.human else str(row.item["Size"]),
    "Comment": lambda row: row.item.get("Comment", ""),
}


class HistoryRow(Row):
    """A step of an image's history."""

    go_type = "*image.historyContext"
    human = True
    fields = _HISTORY_FIELDS


class _PlainHistoryRow(HistoryRow):
    human = False


def _history(command: Invocation) -> None:
    name = command.args[0]
    items = command.client.call("GET", f"/images/{quote(name, '/:@')}/history", {"platform": command["platform"]})
    kind = HistoryRow if command["human"] else _PlainHistoryRow
    rows = [kind(item, trunc=not command["no-trunc"]) for item in items]
    format_ = command["format"]
    if command["quiet"] and format_ in ("", "table"):
        format_ = "{{.ID}}"
    when = "{{.CreatedSince}}" if command["human"] else "{{.CreatedAt}}"
    titles = _HISTORY_TITLES if command["human"] else {**_HISTORY_TITLES, "CreatedSince": "CREATED AT"}
    render(
        format_,
        rows,
        table="{{.ID}}\t" + when + "\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        titles=titles,
    )


IMAGES = Command(
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    _images,
    (
        Flag("all", "a", "bool", "Show all images (default hides intermediate images)"),
        Flag("digests", "", "bool", "Show digests"),
        FILTER,
        FORMAT,
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only show image IDs"),
        Flag("tree", "", "bool", "List multi-platform images as a tree (EXPERIMENTAL)"),
    ),
    arguments=(0, 1),
    aliases=("image ls", "image list", "images"),
)
RMI = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    _rmi,
    (
        Flag("force", "f", "bool", "Force removal of the image"),
        Flag("no-prune", "", "bool", "Do not delete untagged parents"),
    ),
    arguments=(1, None),
    aliases=("image rm", "image remove", "rmi"),
)
TAG = Command(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    _tag,
    arguments=(2, 2),
    aliases=("image tag", "tag"),
)
HISTORY = Command(
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    _history,
    (
        FORMAT,
        Flag("human", "H", "bool", "Print sizes and dates in human readable format (default true)", True),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag(
            "platform",
            "",
            "string",
            'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
        Flag("quiet", "q", "bool", "Only show image IDs"),
    ),
    arguments=(1, 1),
    aliases=("image history", "history"),
)
COMMANDS = {
    "images": IMAGES,
    "image ls": IMAGES,
    "rmi": RMI,
    "image rm": RMI,
    "tag": TAG,
    "image tag": TAG,
    "history": HISTORY,
    "image history": HISTORY,
}
