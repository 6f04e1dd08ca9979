"""`images --tree`: each image with its names, and the manifest of each platform below it."""

from wherry.cli.output import line
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
_LEGEND = "Info ->  U In Use "
_TITLES = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_WIDTH = 80
_GAP = "   "


def show(items: "list[dict[str, Any]]", *, untagged: bool) -> None:
    """Print the tree.

    Args:
        items: lines of `GET /images/json` with their manifests, newest first.
        untagged: also images without a name.
    """
    blocks = [_block(item) for item in items if untagged or item.get("RepoTags")]
    rows = [row for block in blocks for row in block]
    line(_WARNING)
    line(_LEGEND.rjust(_WIDTH))
    line("")
    rest = 12 + 10 + 12 + 5 + 4 * len(_GAP)
    # a line-drawing character counts with its bytes, as in Docker's table
    widest = max((len(name.encode()) for name, *_ in rows), default=len(_TITLES[0]))
    width = max(len(_TITLES[0]), min(widest, _WIDTH - rest))
    line(_GAP.join((_TITLES[0].ljust(width), _TITLES[1].ljust(12), *_TITLES[2:])))
    for block in blocks:
        for name, id_, disk, content, used in block:
            shown = name if len(name) <= width else f"{name[: width - 1]}…"
            if not id_:
                line(shown)
                continue
            mark = ("U" if used else "").ljust(5)
            line(_GAP.join((shown.ljust(width), id_.ljust(12), disk.rjust(10), content.rjust(12), mark)))
        line("")


def _block(item: "dict[str, Any]") -> "list[tuple[str, str, str, str, bool]]":
    manifests = [entry for entry in item.get("Manifests") or () if entry.get("Kind") == "image"]
    used = any((entry.get("ImageData") or {}).get("Containers") for entry in manifests)
    content = sum(entry["Size"]["Content"] for entry in manifests)
    names = item.get("RepoTags") or ["<untagged>"]
    rows = [(name, "", "", "", False) for name in names[:-1]]
    rows.append((names[-1], _short(item["Id"]), sizes.human(item["Size"], 3), sizes.human(content, 3), used))
    last = len(manifests) - 1
    for number, entry in enumerate(manifests):
        data = entry.get("ImageData") or {}
        platform = data.get("Platform") or {}
        words = [platform.get("os") or "", platform.get("architecture") or "", platform.get("variant") or ""]
        branch = "└─" if number == last else "├─"
        size = entry["Size"]
        rows.append(
            (
                f"{branch} {'/'.join(word for word in words if word)}",
                _short(entry["ID"]),
                sizes.human(size["Total"], 3),
                sizes.human(size["Content"], 3),
                bool(data.get("Containers")),
            )
        )
    return rows


def _short(id_: str) -> str:
    return id_.partition(":")[2][:12]
