"""Options of the local driver: `type`, `device` and `o`, as mount(8) would be told them.

-o type=none  -o device=/srv/data -o o=bind             a directory of the host
-o type=tmpfs -o device=tmpfs     -o o=size=100m        memory, for as long as a container uses it
-o type=nfs   -o device=:/export  -o o=addr=10.0.0.1    another machine's, and any other file system of the kernel
"""

import socket
from typing import Any

from wherry.errors import InvalidArgument

_KNOWN = ("device", "o", "size", "type")


def check(name: str, options: "dict[str, str]") -> None:
    """Refuse options that the local driver does not have, or that are incomplete.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    for option in sorted(options):
        if option not in _KNOWN:
            raise InvalidArgument(f'create {name}: invalid option: "{option}"')
    if "size" in options:
        # a limit that would not be kept must not be promised
        raise InvalidArgument(f"create {name}: quota size requested but no quota support")
    if not options:
        return
    for needed in ("device", "type"):
        if not options.get(needed):
            raise InvalidArgument(f'create {name}: missing required option: "{needed}"')


def words(options: "dict[str, str]") -> list[str]:
    """The words of `o`."""
    return [word for word in (options.get("o") or "").split(",") if word]


def is_bind(options: "dict[str, str]") -> bool:
    """Whether the volume is another directory of the host."""
    return bool({"bind", "rbind"} & set(words(options)))


def needs_mount(options: "dict[str, str] | None") -> bool:
    """Whether the volume is a file system that must be mounted before it can be used."""
    return bool(options) and not is_bind(options or {})


def mount_request(options: "dict[str, str]") -> dict[str, Any]:
    """What the worker that mounts it must know: `type`, `device` and `words`.

    A host name in `addr=` becomes an address here: the kernel wants one, and mount.nfs(8) is not asked.

    Raises:
        InvalidArgument: the name has no address.
    """
    found = words(options)
    if options.get("type") in ("nfs", "nfs4", "cifs"):
        found = [_resolved(word) for word in found]
    return {"type": options.get("type", ""), "device": options.get("device", ""), "words": found}


def _resolved(word: str) -> str:
    key, equals, value = word.partition("=")
    if key != "addr" or not equals:
        return word
    try:
        address = socket.getaddrinfo(value, None, type=socket.SOCK_STREAM)[0][4][0]
    except (OSError, UnicodeError):
        raise InvalidArgument(f"error resolving passed in network volume address: {value}") from None
    return f"addr={address}"
