"""How somebody who is not root gets access to an engine's socket, in words."""

import os

_GROUP = "wherry"


def how_to_join(socket: str) -> str:
    """Return the command that gives a user access to a socket.

    Args:
        socket: its path; one that is not there yet gets the default group.
    """
    try:
        owner = os.stat(socket).st_gid
    except OSError:
        owner = 0
    name = _name_of(owner) if owner else _GROUP if _is_there(_GROUP) else ""
    if name:
        return f"usermod -aG {name} USER"
    return f"groupadd --system {_GROUP}; usermod -aG {_GROUP} USER; restart wherryd"


def _name_of(group: int) -> str:
    return next((fields[0] for fields in _groups() if fields[2] == str(group)), str(group))


def _is_there(name: str) -> bool:
    return any(fields[0] == name for fields in _groups())


def _groups() -> "list[list[str]]":
    # without the module grp: it is an extension that the short-lived command need not load
    try:
        with open("/etc/group", encoding="utf-8", errors="replace") as file:
            return [fields for line in file if len(fields := line.split(":")) == 4]
    except OSError:
        return []
