"""Roles and the actions that they allow; names of accounts and passwords."""

import re
from typing import Final

from wherry.errors import InvalidArgument
from wherry.registry.access import DELETE, OVERWRITE, PULL, PUSH

READER: Final = "reader"
WRITER: Final = "writer"
ADMIN: Final = "admin"  # of a repository
OWNER: Final = "owner"  # of an organisation; of their own namespace, everybody

REPOSITORY_ROLES: Final = (READER, WRITER, ADMIN)
ORGANISATION_ROLES: Final = (READER, WRITER, OWNER)

NOTHING: Final[frozenset[str]] = frozenset()
ALL: Final = frozenset((PULL, PUSH, OVERWRITE, DELETE))
ACTIONS: Final[dict[str, frozenset[str]]] = {
    "": NOTHING,
    READER: frozenset((PULL,)),
    WRITER: frozenset((PULL, PUSH, OVERWRITE)),
    ADMIN: ALL,
    OWNER: ALL,
}
"""Role -> what it allows. Deleting is not writing: what was deployed stays until its administrator says otherwise."""

_RANK: Final = {"": 0, READER: 1, WRITER: 2, ADMIN: 3, OWNER: 4}

NAME_MAX: Final = 39
PASSWORD_MIN: Final = 8
PASSWORD_MAX: Final = 1024
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_ROBOT = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
RESERVED: Final = frozenset(("library", "wherry", "admin", "root", "v1", "v2", "api", "anonymous", "operator"))
"""Nobody signs up by these; an administrator may make them."""


def higher(*roles: str) -> str:
    """The role that allows most."""
    return max(roles, key=lambda role: _RANK[role])


def account_name(value: str) -> str:
    """Return `value` if an account may be called so: one part of a repository's name, 2 to 39 characters.

    Raises:
        InvalidArgument: it may not.
    """
    if not 2 <= len(value) <= NAME_MAX or _NAME.fullmatch(value) is None:
        raise InvalidArgument(
            "a name has 2 to 39 lower-case letters and digits; dots, dashes and underscores only between them"
        )
    return value


def robot_word(value: str) -> str:
    """Return `value` if a token may be called so. Raises `InvalidArgument`."""
    if not 1 <= len(value) <= 64 or _ROBOT.fullmatch(value) is None:
        raise InvalidArgument(
            "a token's name has 1 to 64 lower-case letters and digits; dots, dashes and underscores only between them"
        )
    return value


def new_password(value: str, name: str) -> str:
    """Return `value` if `name` may have it as password.

    Raises:
        InvalidArgument: it is too short, too long, or the name itself.
    """
    if len(value) < PASSWORD_MIN:
        raise InvalidArgument(f"a password has at least {PASSWORD_MIN} characters")
    if len(value.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:
        raise InvalidArgument(f"a password has at most {PASSWORD_MAX} bytes")
    if value.casefold() == name.casefold() or len(set(value)) < 3 or "\0" in value:
        raise InvalidArgument("that password is too easy to guess")
    return value


def robot_actions(values: "list[str] | tuple[str, ...]") -> frozenset[str]:
    """Return a token's actions as a set: of `pull`, `push`, `overwrite`, `delete`.

    Raises:
        InvalidArgument: none, or another one.
    """
    found = frozenset(values)
    if not found or not found <= ALL:
        raise InvalidArgument("actions: one or more of pull, push, overwrite, delete")
    if found & {PUSH, OVERWRITE}:
        found |= {PULL, PUSH}  # a push asks what is there already; nobody overwrites without pushing
    return found


def repository_role(value: str) -> str:
    """Return `value` if it is a role in a repository. Raises `InvalidArgument`."""
    if value not in REPOSITORY_ROLES:
        raise InvalidArgument("a role in a repository is reader, writer or admin")
    return value


def organisation_role(value: str) -> str:
    """Return `value` if it is a role in an organisation. Raises `InvalidArgument`."""
    if value not in ORGANISATION_ROLES:
        raise InvalidArgument("a role in an organisation is reader, writer or owner")
    return value
