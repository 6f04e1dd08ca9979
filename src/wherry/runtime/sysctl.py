"""Which kernel parameters a container may set: those that its own namespaces hold, and no others (CVE-2022-0811)."""

from wherry.errors import InvalidSpec

_IPC = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def sysctl_files(sysctl: "dict[str, str]", own: "frozenset[str] | set[str]") -> "tuple[tuple[str, str], ...]":
    """Turn names into files below /proc/sys.

    Args:
        sysctl: name to value. A name may be written with `/` where a part holds a dot (`net/ipv4/conf/eth0.1/…`).
        own: namespaces that are the container's own (OCI names).

    Returns:
        Pairs of (path relative to /proc/sys, value).

    Raises:
        InvalidSpec: a parameter of the whole machine, of a namespace that is shared, or a malformed name or value.
    """
    found = []
    for name, value in sysctl.items():
        parts = _parts(name)
        dotted = ".".join(parts)
        if dotted in _IPC or dotted.startswith("fs.mqueue."):
            needed = "ipc"
        elif parts[0] == "net" and len(parts) > 1:
            needed = "network"
        elif dotted == "kernel.domainname":
            needed = "uts"
        elif dotted.startswith("user."):
            needed = "user"
        else:
            raise InvalidSpec(f'sysctl "{name}" is not in a separate kernel namespace')
        if needed not in own:
            raise InvalidSpec(f'sysctl "{name}" is not allowed in the host\'s {needed} namespace')
        if "\n" in value or "\0" in value:
            raise InvalidSpec(f'sysctl "{name}": the value must be one line')
        found.append(("/".join(parts), value))
    return tuple(found)


def _parts(name: str) -> "list[str]":
    slash, dot = name.find("/"), name.find(".")
    # the separator that comes first is the separator, as sysctl(8) has it
    separator = "/" if slash >= 0 and (dot < 0 or slash < dot) else "."
    parts = name.split(separator)
    if separator == ".":
        parts = [part.replace("/", ".") for part in parts]
    if len(parts) < 2 or any(part in ("", ".", "..") or not _LETTERS.issuperset(part) for part in parts):
        raise InvalidSpec(f'sysctl "{name}" is malformed')
    return parts
