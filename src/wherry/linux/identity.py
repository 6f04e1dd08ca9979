"""Who a container's user is: its own /etc/passwd and /etc/group, read as hostile input, and never through NSS.

The rules for `name`, `uid`, `name:group`, `uid:gid` are Docker's.
"""

import errno

from wherry.errors import HostileInput, InvalidArgument, KernelError
from wherry.linux.files import read_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE = 4 << 20
MAX_ID = (1 << 31) - 1


class Identity:
    """Numbers of a user, and its home."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: "tuple[int, ...]", home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def read_accounts(path: str, root: int | None = None) -> "list[list[str]]":
    """Lines of a passwd or group file, split at colons. No file is an empty one; a FIFO, a device or a file over
    4 MiB is refused (`HostileInput`)."""
    try:
        text = read_regular(path, MAX_FILE, root)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return []
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise HostileInput(f"{path} is not a regular file", path=path) from None
        raise
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    return [line.split(":") for line in lines if line and line[0] != "#"]


def resolve(
    spec: str, passwd: "Sequence[Sequence[str]]", group: "Sequence[Sequence[str]]", extra: "Sequence[str]" = ()
) -> Identity:
    """Resolve what `--user` and `--group-add` say.

    Args:
        spec: `user`, `user:group`, each a name or a number; empty means user 0.
        passwd: rows of the passwd file.
        group: rows of the group file.
        extra: more groups, names or numbers.

    Returns:
        Numbers. `groups` has the primary group first (CVE-2022-36109), no number twice.

    Raises:
        InvalidArgument: no such name, or a number that does not fit (CVE-2024-40635); Docker's words.
    """
    user_word, _, group_word = spec.partition(":")
    uid, gid, name, home = 0, 0, "", "/"
    number = _number(user_word or "0")
    for row in passwd:
        if len(row) < 4:
            continue
        row_uid = _number(row[2])
        if (user_word and row[0] == user_word) or (number is not None and row_uid == number):
            uid, gid, name = _in_range(row_uid), _in_range(_number(row[3])), row[0]
            home = row[5] if len(row) > 5 and row[5] else "/"
            break
    else:
        if user_word:
            if number is None:
                raise InvalidArgument(f"unable to find user {user_word}: no matching entries in passwd file")
            uid = _in_range(number)
    groups: list[int] = []
    if group_word:
        gid = _group(group_word, group)
    elif name:
        for row in group:
            found = _number(row[2]) if len(row) > 3 else None
            if found is not None and found <= MAX_ID and name in row[3].split(","):
                groups.append(found)
    groups = [gid, *groups, *(_group(word, group, "Unable") for word in extra)]
    return Identity(uid, gid, tuple(dict.fromkeys(groups)), home)


def home_of(uid: int, passwd: "Sequence[Sequence[str]]") -> str:
    """Home directory of the user `uid`; `/` where the file does not say."""
    for row in passwd:
        if len(row) > 5 and _number(row[2]) == uid:
            return row[5] or "/"
    return "/"


def _group(word: str, group: "Sequence[Sequence[str]]", unable: str = "unable") -> int:
    number = _number(word)
    for row in group:
        if len(row) >= 3 and (row[0] == word or (number is not None and _number(row[2]) == number)):
            return _in_range(_number(row[2]))
    if number is None:
        raise InvalidArgument(f"{unable} to find group {word}: no matching entries in group file")
    return _in_range(number)


def _number(word: str) -> int | None:
    # int() would take "+1", "1_0" and other scripts' digits; 20 digits are more than any id
    digits = word[1:] if word[:1] == "-" else word
    if not digits or len(digits) > 20 or not (digits.isascii() and digits.isdigit()):
        return None
    return int(word)


def _in_range(number: int | None) -> int:
    if number is None or not 0 <= number <= MAX_ID:
        raise InvalidArgument("uids and gids must be in range 0-2147483647")
    return number
