"""Which docker commands a row asks, so that no command is left with a handful of rows."""

import re
from collections import Counter
from collections.abc import Iterable

from tests.compat.row import Row

# of a group with these subcommands each is a command of its own; the second name is the one it is counted under
_GROUPS = {
    "container": (
        "attach commit cp create diff exec export inspect kill logs ls pause port prune rename restart rm run start "
        "stats stop top unpause update wait"
    ),
    "image": "build history import inspect load ls prune pull push rm save tag",
    "network": "connect create disconnect inspect ls prune rm",
    "volume": "create inspect ls prune rm",
    "system": "df events info prune",
    "builder": "build prune",
}
# dockerd answers these outside of a swarm with a refusal, and these of plugins and checkpoints rarely: counted as one
_WHOLE = ("checkpoint", "config", "manifest", "node", "plugin", "secret", "service", "stack", "swarm")
_SHORT = {
    **{f"container {word}": word for word in _GROUPS["container"].split() if word not in ("inspect", "ls", "prune")},
    **{f"image {word}": word for word in ("build", "history", "import", "load", "pull", "push", "save", "tag")},
    **{f"system {word}": word for word in ("events", "info")},
    "builder build": "build",
    "container ls": "ps",
    "image ls": "images",
    "image rm": "rmi",
}
_PLAIN = ("login", "logout", "search", "version", "inspect", "ps", "images", "rmi", "build")
_DOCKER = re.compile(r"(?<![\w./-])docker((?: +-[-\w]+(?:=\S+)?)*)((?: +[a-z]+){1,2})")

COMMANDS: tuple[str, ...] = tuple(
    sorted(
        {
            *_PLAIN,
            *_WHOLE,
            *(_SHORT.get(f"{group} {word}", f"{group} {word}") for group in _GROUPS for word in _GROUPS[group].split()),
        }
    )
)


def asked(row: Row) -> set[str]:
    """The commands that a row's line gives (not its setup), each under one name: `container ls` is `ps`."""
    found = set()
    for _, words in _DOCKER.findall(row.line):
        first, *rest = words.split()
        if first in _GROUPS and rest:
            found.add(_SHORT.get(f"{first} {rest[0]}", f"{first} {rest[0]}"))
        else:
            found.add(first)
    return found & set(COMMANDS)


def counted(rows: Iterable[Row]) -> Counter[str]:
    """How many rows ask each command; one that nobody asks counts zero."""
    counts = Counter(dict.fromkeys(COMMANDS, 0))
    for row in rows:
        counts.update(asked(row))
    return counts
