"""Which files a `COPY` or `ADD` takes: wildcards as Go's filepath.Match has them, links followed inside the tree."""

from hashlib import sha256

from wherry.errors import NotFound
from wherry.snapshots.treeview import DIRECTORY, Excluded, fingerprint, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.snapshots.treeview import View

_SPECIAL = frozenset("*?[\\")


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
    if not any(_SPECIAL & set(part) for part in parts):
        path = "/".join(parts)
        resolve(view, path)
        return [path]
    found = [""]
    for part in parts:
        following = []
        for base in found:
            following += _children(view, base, part)
        found = following
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


def _children(view: "View", base: str, part: str) -> "list[str]":
    try:
        directory = resolve(view, base)
    except NotFound:
        return []
    entry = view.get(directory)
    if entry is None or entry.kind != DIRECTORY:
        return []
    names = view.names(directory)
    chosen = [name for name in names if matches(part, name)] if _SPECIAL & set(part) else [part] * (part in names)
    return [f"{base}/{name}" if base else name for name in chosen]


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits one component of a pattern: `*`, `?`, `[a-z]`, `[^a]`, and `\\` before what is meant itself.

    Raises:
        NotFound: the pattern is malformed.
    """
    return _match(pattern, 0, name, 0)


def _match(pattern: str, p: int, name: str, n: int) -> bool:
    while p < len(pattern):
        char = pattern[p]
        if char == "*":
            while p < len(pattern) and pattern[p] == "*":
                p += 1
            return any(_match(pattern, p, name, rest) for rest in range(n, len(name) + 1))
        if n >= len(name):
            return False
        if char == "[":
            p, fits = _class(pattern, p, name[n])
            if not fits:
                return False
        elif char == "?":
            p += 1
        else:
            if char == "\\":
                p += 1
                if p >= len(pattern):
                    raise NotFound("syntax error in pattern", path=pattern)
            if pattern[p] != name[n]:
                return False
            p += 1
        n += 1
    return n == len(name)


def _class(pattern: str, p: int, char: str) -> "tuple[int, bool]":
    """Read `[…]` at `p`; returns where it ends and whether the character is in it."""
    p += 1
    negated = pattern[p : p + 1] == "^"
    p += negated
    found, count = False, 0
    while True:
        if pattern[p : p + 1] == "]" and count:
            return p + 1, found != negated
        low, p = _bound(pattern, p)
        high = low
        if pattern[p : p + 1] == "-":
            high, p = _bound(pattern, p + 1)
        found = found or low <= char <= high
        count += 1


def _bound(pattern: str, p: int) -> "tuple[str, int]":
    if p < len(pattern) and pattern[p] == "\\":
        p += 1
    if p >= len(pattern) or (pattern[p] in "-]" and pattern[p - 1] != "\\"):
        raise NotFound("syntax error in pattern", path=pattern)
    return pattern[p], p + 1


def digest(view: "View", sources: "Sequence[str]", excluded: "Excluded") -> str:
    """Hex digest of all that these sources give a step: names, metadata and content, never a time.

    Raises:
        NotFound: one of them names what is not there; its `path` says what.
    """
    state = sha256()
    for source in sources:
        for path in select(view, source):
            state.update(f"{path.rpartition('/')[2]}\n".encode("utf-8", "surrogateescape"))
            fingerprint(view, resolve(view, path), excluded, state)
        state.update(b"\0")
    return state.hexdigest()
