"""`--chown` and `--chmod` of a build step: names looked up in the root's own files, modes as chmod(1) reads them."""

from wherry.errors import InvalidArgument, KernelError
from wherry.linux.files import read_regular

_LIMIT = 1 << 20
_UNKNOWN = "unable to convert uid/gid chown string to host mapping"
_HIGHEST = (1 << 31) - 1


class Owner:
    """Numbers to give files to."""

    __slots__ = ("gid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid


def look_up(root: int, text: str) -> Owner | None:
    """Read `user[:group]`, names or numbers; None where nothing is asked for. What is empty beside a colon is 0.

    Args:
        root: descriptor of the root whose `/etc/passwd` and `/etc/group` count.

    Raises:
        InvalidArgument: a name that is not in them, or a number that no file can have.
        HostileInput: one of the files is not what it should be.
    """
    if not text:
        return None
    user, colon, group = text.partition(":")
    gid = 0 if colon else -1
    if colon and not user:
        uid = 0
    elif user.isdigit():
        uid = _number(user)
    else:
        fields = _find(root, "/etc/passwd", user)
        if fields is None or len(fields) < 4:
            raise InvalidArgument(f"{_UNKNOWN}: can't find uid for user {user}: no such user: {user}")
        uid, gid = _number(fields[2]), 0 if colon else _number(fields[3])
    if colon and group:
        if group.isdigit():
            gid = _number(group)
        else:
            fields = _find(root, "/etc/group", group)
            if fields is None or len(fields) < 3:
                raise InvalidArgument(f"{_UNKNOWN}: can't find gid for group {group}: no such group: {group}")
            gid = _number(fields[2])
    return Owner(uid, uid if gid < 0 else gid)


def _number(text: str) -> int:
    if not text.isdigit() or int(text) > _HIGHEST:
        raise InvalidArgument(f"uids and gids must be in range 0-{_HIGHEST}")
    return int(text)


def _find(root: int, path: str, name: str) -> "list[str] | None":
    try:
        data = read_regular(path, _LIMIT, root=root)
    except KernelError:
        return None
    for line in data.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return fields
    return None


class Modes:
    """`--chmod`: an octal number, or what chmod(1) takes (`u=rwX,go-w`).

    Raises:
        InvalidArgument: it is neither.
    """

    __slots__ = ("_octal", "_steps")

    def __init__(self, text: str) -> None:
        self._octal = -1
        self._steps: list[tuple[str, str, str]] = []
        if text.isdigit():
            try:
                self._octal = int(text, 8)
            except ValueError:
                self._octal = 1 << 20
            if self._octal > 0o7777:
                raise InvalidArgument(
                    f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                )
            return
        for part in text.split(","):
            index = next((i for i, char in enumerate(part) if char in "+-="), -1)
            if index < 0 or set(part[:index]) - set("ugoa"):
                raise InvalidArgument(
                    f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                )
            who = part[:index] or "a"
            rest = part[index:]
            while rest:
                operator, rest = rest[0], rest[1:]
                end = next((i for i, char in enumerate(rest) if char in "+-="), len(rest))
                permissions, rest = rest[:end], rest[end:]
                if set(permissions) - set("rwxXstugo"):
                    raise InvalidArgument(
                        f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                    )
                self._steps.append((who.replace("a", "ugo"), operator, permissions))

    def of(self, mode: int, directory: bool) -> int:
        """The mode that a file of mode `mode` gets."""
        if self._octal >= 0:
            return self._octal
        for who, operator, permissions in self._steps:
            mask = bits = 0
            for place in who:
                shift = {"u": 6, "g": 3, "o": 0}[place]
                mask |= 7 << shift
                for permission in permissions:
                    bits |= _bit(permission, place, shift, mode, directory)
            if "u" in who and permissions.find("s") >= 0:
                mask |= 0o4000
            if "g" in who and permissions.find("s") >= 0:
                mask |= 0o2000
            if operator == "=":
                mode = mode & ~mask | bits
            elif operator == "+":
                mode |= bits
            else:
                mode &= ~bits
        return mode


def _bit(permission: str, place: str, shift: int, mode: int, directory: bool) -> int:
    if permission in "rwx":
        return {"r": 4, "w": 2, "x": 1}[permission] << shift
    if permission == "X":
        return (1 << shift) if directory or mode & 0o111 else 0
    if permission == "s":
        return {"u": 0o4000, "g": 0o2000, "o": 0}[place]
    if permission == "t":
        return 0o1000
    return ((mode >> {"u": 6, "g": 3, "o": 0}[permission]) & 7) << shift
