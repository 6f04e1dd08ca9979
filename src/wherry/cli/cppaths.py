"""What `cp SRC DST` means: which directory gets what under which name. The rules are Docker's (and nearly cp(1)'s).

A path that ends with `/` asserts a directory, one that ends with `/.` means its content.
"""

import posixpath

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NO_DIRECTORY = "no such directory"
NOT_OVER_FILE = "cannot copy directory"


class Side:
    """One side of a copy.

    Args:
        path: absolute; a trailing `/` or `/.` is kept.
        exists: whether something is there.
        is_dir: whether that is a directory.
        rename: the name that the archive gives it, where a link was followed and the user's own name counts.
    """

    __slots__ = ("exists", "is_dir", "path", "rename")

    def __init__(self, path: str, exists: bool, is_dir: bool, rename: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_dir = is_dir
        self.rename = rename


def split_argument(text: str) -> "tuple[str, str]":
    """(container, path) of an argument; the container is empty for a path of this machine."""
    if text.startswith("/"):
        return "", text
    container, colon, path = text.partition(":")
    if not colon or container.startswith("."):
        return "", text
    return container, path


def means_content(path: str) -> bool:
    """Whether the path ends with `.`: what is in the directory is meant, not the directory."""
    return not path or posixpath.basename(path) == "."


def asserts_directory(path: str) -> bool:
    """Whether the path can only be a directory's."""
    return path.endswith("/") or means_content(path)


def kept_end(clean: str, path: str) -> str:
    """A cleaned path with the end that the user gave it."""
    if means_content(path) and not means_content(clean):
        return f"{clean.rstrip('/')}/."
    if path.endswith("/") and not clean.endswith("/"):
        return clean + "/"
    return clean


def split(path: str) -> "tuple[str, str]":
    """(directory, name) of a path; the name of `a/.` is `.`."""
    clean = posixpath.normpath(path)
    if means_content(path) and clean != ".":
        clean = f"{clean.rstrip('/')}/."
    if clean == "/":
        return "/", "/"
    return posixpath.dirname(clean) or ".", posixpath.basename(clean)


def placed(source: Side, target: Side) -> "tuple[str, str, str]":
    """Where the archive of `source` goes.

    Returns:
        (directory, old, new): entries whose first component is `old` get `new` in its place; nothing changes where both
        are the same.

    Raises:
        Failure: in Docker's words.
    """
    name = source.rename or split(source.path)[1]
    if target.exists and target.is_dir:
        return target.path, name, name
    if target.exists and source.is_dir:
        raise Failure(NOT_OVER_FILE)
    if not target.exists and not source.is_dir and asserts_directory(target.path):
        raise Failure(NO_DIRECTORY)
    directory, new = split(target.path)
    return directory, name, new


def renaming(old: str, new: str) -> "Any":
    """A function that gives the names of an archive another first component; None where that changes nothing."""
    if old == new:
        return None
    before = b"" if old == "/" else old.encode("utf-8", "surrogateescape")
    after = new.encode("utf-8", "surrogateescape")

    def rename(name: bytes) -> bytes:
        if not before:
            return after + b"/" + name.lstrip(b"/")
        if name == before or name.startswith(before + b"/"):
            return after + name[len(before) :]
        return name

    return rename
