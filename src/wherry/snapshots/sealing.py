"""Workers that read a container's upper directory from outside, by descriptor: as a layer, and as a list of changes."""

import os
from json import dumps

from wherry.snapshots.archive import Written, write_archive
from wherry.snapshots.confine import confine_reader
from wherry.snapshots.diff import diff_upper
from wherry.snapshots.metadata import root_says_something
from wherry.snapshots.scaffold import mark, scaffold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_LINES = 1000


def layer_worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any]":
    """Write an upper directory as a layer. A process of its own.

    Args:
        args: `{"gzip": bool, "newest": nanoseconds | null, "mounted": bool, "below": [trees of the layers below, newest
            first]}`; `mounted` says that the directory was a container's root: what the runtime made there is left out.
        fds: `tree` (the directory), `blob` (takes the layer), `copy` (takes its plain archive).

    Returns:
        the fields of `Written`; without entries the layer is empty.

    Raises:
        as `write_archive`.
    """
    lowers = open_trees(args["below"]) if args["mounted"] else []
    confine_reader()
    return write_layer(args, fds, lowers).to_json()


def write_layer(args: "dict[str, Any]", fds: "dict[str, int]", lowers: "Sequence[int]") -> Written:
    """Do what `layer_worker` does, in this process; `lowers` are descriptors of the layers below, newest first."""
    tree = fds["tree"]
    return write_archive(
        tree,
        fds["blob"],
        gzip=args["gzip"],
        exclude=scaffold(tree, lowers) if args["mounted"] else mark(tree),
        root=root_says_something(os.fstat(tree)),
        newest=args["newest"],
        copy_fd=fds["copy"],
    )


def changes_worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any]":
    """Compare an upper directory with the layers below. A process of its own.

    Args:
        args: `{"below": [trees of the layers below, newest first]}`.
        fds: `tree` (the directory), `result`: lines `{"changes": [[kind, path], …]}` go there.

    Raises:
        as `diff_upper`.
    """
    lowers = open_trees(args["below"])
    confine_reader()
    tree = fds["tree"]
    changes = diff_upper(tree, lowers, hidden=scaffold(tree, lowers))
    for start in range(0, len(changes), _LINES):
        line = memoryview(dumps({"changes": changes[start : start + _LINES]}).encode() + b"\n")
        while line:
            line = line[os.write(fds["result"], line) :]
    return {}


def open_trees(paths: "Sequence[str]") -> list[int]:
    """Open the layers' trees."""
    return [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in paths]
