"""Which files a `COPY` or `ADD` takes: wildcards as Go's filepath.Match has them, links followed inside the tree."""

from wherry.errors import InvalidArgument, NotFound
from wherry.patterns import globs
from wherry.snapshots.treeview import DIRECTORY, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.snapshots.treeview import View


def select(view: "View", pattern: str) -> "list[str]":
    """The paths that a source names, in order of name; links on the way are still in them.

    Args:
        view: the tree.
        pattern: relative to its root, a leading slash does not matter; `..` stops at the root.

    Returns:
        one path, or what a wildcard fits: perhaps nothing, as with BuildKit.

    Raises:
        NotFound: it names one file, which is not there; or it is no pattern.
    """
    parts = _parts(pattern)
    if not any(map(globs.special, parts)):
        path = "/".join(parts)
        resolve(view, path)
        return [path]
    found = [""]
    for part in parts:
        found = _fitting(view, found, part)
    return found


def inside(pattern: str) -> str:
    """How a source is written without what does not matter: slashes at its ends, `.`, and `..` that would lead out."""
    return "/".join(_parts(pattern))


def _parts(pattern: str) -> "list[str]":
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _fitting(view: "View", bases: "list[str]", part: str) -> "list[str]":
    """What in these directories fits one component; a directory that links give several names is looked into once."""
    try:
        fits = globs.component(part) if globs.special(part) else part.__eq__
    except InvalidArgument as error:
        raise NotFound(str(error), path=part) from None
    found: list[str] = []
    seen: set[str] = set()
    for base in bases:
        try:
            directory = resolve(view, base)
        except NotFound:
            continue
        entry = view.get(directory)
        if entry is None or entry.kind != DIRECTORY or directory in seen:
            continue
        seen.add(directory)
        found += [f"{base}/{name}" if base else name for name in view.names(directory) if fits(name)]
    return found
