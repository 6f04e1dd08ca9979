"""mount(8) option words, sorted into what the kernel takes: flags, attributes, propagation, and the rest as data."""

from wherry.linux import mount as m

# word -> (clears, MS_ flag, MOUNT_ATTR_ bit); the attribute is what a bind mount can carry, 0 where it cannot
_FLAGS: "dict[str, tuple[bool, int, int]]" = {
    "async": (True, m.MS_SYNCHRONOUS, 0),
    "atime": (True, m.MS_NOATIME, m.MOUNT_ATTR_NOATIME),
    "defaults": (False, 0, 0),
    "dev": (True, m.MS_NODEV, m.MOUNT_ATTR_NODEV),
    "diratime": (True, m.MS_NODIRATIME, m.MOUNT_ATTR_NODIRATIME),
    "dirsync": (False, m.MS_DIRSYNC, 0),
    "exec": (True, m.MS_NOEXEC, m.MOUNT_ATTR_NOEXEC),
    "iversion": (False, m.MS_I_VERSION, 0),
    "lazytime": (False, m.MS_LAZYTIME, 0),
    "loud": (True, m.MS_SILENT, 0),
    "mand": (False, m.MS_MANDLOCK, 0),
    "noatime": (False, m.MS_NOATIME, m.MOUNT_ATTR_NOATIME),
    "nodev": (False, m.MS_NODEV, m.MOUNT_ATTR_NODEV),
    "nodiratime": (False, m.MS_NODIRATIME, m.MOUNT_ATTR_NODIRATIME),
    "noexec": (False, m.MS_NOEXEC, m.MOUNT_ATTR_NOEXEC),
    "noiversion": (True, m.MS_I_VERSION, 0),
    "nolazytime": (True, m.MS_LAZYTIME, 0),
    "nomand": (True, m.MS_MANDLOCK, 0),
    "norelatime": (True, m.MS_RELATIME, m.MOUNT_ATTR_RELATIME),
    "nostrictatime": (True, m.MS_STRICTATIME, m.MOUNT_ATTR_STRICTATIME),
    "nosuid": (False, m.MS_NOSUID, m.MOUNT_ATTR_NOSUID),
    "nosymfollow": (False, m.MS_NOSYMFOLLOW, m.MOUNT_ATTR_NOSYMFOLLOW),
    "relatime": (False, m.MS_RELATIME, m.MOUNT_ATTR_RELATIME),
    "ro": (False, m.MS_RDONLY, m.MOUNT_ATTR_RDONLY),
    "rw": (True, m.MS_RDONLY, m.MOUNT_ATTR_RDONLY),
    "silent": (False, m.MS_SILENT, 0),
    "strictatime": (False, m.MS_STRICTATIME, m.MOUNT_ATTR_STRICTATIME),
    "suid": (True, m.MS_NOSUID, m.MOUNT_ATTR_NOSUID),
    "symfollow": (True, m.MS_NOSYMFOLLOW, m.MOUNT_ATTR_NOSYMFOLLOW),
    "sync": (False, m.MS_SYNCHRONOUS, 0),
}
_ATIME_WORDS = frozenset({"atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"})
_PROPAGATION = {
    "private": (m.MS_PRIVATE, False),
    "rprivate": (m.MS_PRIVATE, True),
    "slave": (m.MS_SLAVE, False),
    "rslave": (m.MS_SLAVE, True),
    "shared": (m.MS_SHARED, False),
    "rshared": (m.MS_SHARED, True),
    "unbindable": (m.MS_UNBINDABLE, False),
    "runbindable": (m.MS_UNBINDABLE, True),
}


class Options:
    """Sorted options.

    `flags`: MS_* for mount(2). `add`, `clear`: MOUNT_ATTR_* for the mount alone; `recursive_add`, `recursive_clear`:
    for it and all below (`rro`…). `propagation`: pairs of (MS_* type, recursive) in order. `bind`, `recursive`: a bind
    mount, with what is mounted below. `copy_up`: a tmpfs starts with what it covers. `data`: the file system's words.
    """

    __slots__ = (
        "add",
        "bind",
        "clear",
        "copy_up",
        "data",
        "flags",
        "propagation",
        "recursive",
        "recursive_add",
        "recursive_clear",
    )

    def __init__(self) -> None:
        self.flags = self.add = self.clear = self.recursive_add = self.recursive_clear = 0
        self.propagation: tuple[tuple[int, bool], ...] = ()
        self.bind = self.recursive = self.copy_up = False
        self.data: tuple[str, ...] = ()


def propagation(word: str) -> "tuple[int, bool]":
    """(MS_* type, recursive) of a propagation word. Raises KeyError."""
    return _PROPAGATION[word]


def sort_options(words: "tuple[str, ...]") -> Options:
    """Sort mount(8) words; what is no known word is data."""
    found = Options()
    data = []
    for word in words:
        if word in _FLAGS:
            clears, flag, attribute = _FLAGS[word]
            found.flags = found.flags & ~flag if clears else found.flags | flag
            found.add, found.clear = _attribute(word, clears, attribute, found.add, found.clear)
        elif word in _PROPAGATION:
            found.propagation += (_PROPAGATION[word],)
        elif word in ("bind", "rbind"):
            found.bind = True
            found.recursive = found.recursive or word == "rbind"
        elif word == "tmpcopyup":
            found.copy_up = True
        elif word == "remount":
            continue  # a bind's flags are set with the mount: there is no second step to ask for
        elif word[:1] == "r" and word[1:] in _FLAGS and _FLAGS[word[1:]][2]:
            clears, _, attribute = _FLAGS[word[1:]]
            found.recursive_add, found.recursive_clear = _attribute(
                word[1:], clears, attribute, found.recursive_add, found.recursive_clear
            )
        else:
            data.append(word)
    found.data = tuple(data)
    return found


def _attribute(word: str, clears: bool, attribute: int, add: int, clear: int) -> "tuple[int, int]":
    if word in _ATIME_WORDS:
        # access times are one field of several bits: it is cleared whole and then set
        add &= ~m.MOUNT_ATTR__ATIME
        return (add, clear | m.MOUNT_ATTR__ATIME) if clears else (add | attribute, clear | m.MOUNT_ATTR__ATIME)
    if clears:
        return add & ~attribute, clear | attribute
    return add | attribute, clear & ~attribute


FLAG_WORDS = tuple(_FLAGS)
PROPAGATION_WORDS = tuple(_PROPAGATION)
