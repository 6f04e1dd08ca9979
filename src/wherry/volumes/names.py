"""Names of volumes: what becomes a directory of ours is checked before anything else looks at it."""

import re
import secrets

from wherry.errors import InvalidArgument

_ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LONGEST = 255


def check(name: str) -> str:
    """Give the name back if it is one.

    Raises:
        InvalidArgument: it is not, in dockerd's words.
    """
    if len(name) == 1:
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _ALLOWED.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if len(name) > _LONGEST:
        raise InvalidArgument(f"create {name}: volume name is too long, names should be at most {_LONGEST} characters")
    return name


def anonymous() -> str:
    """A name for a volume that nobody named: 64 hex digits."""
    return secrets.token_hex(32)
