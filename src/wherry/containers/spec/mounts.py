"""What is mounted in a container, in the order in which it is mounted."""

from typing import TYPE_CHECKING, Any

from wherry.containers.spec.process import INIT
from wherry.containers.spec.security import SecurityOptions
from wherry.errors import InvalidArgument
from wherry.oci.isolation import default_mounts
from wherry.oci.runtime_config import SHARED_MEMORY
from wherry.wire.containers import HostConfig, MountPoint

if TYPE_CHECKING:
    from wherry.containers.spec.configuration import SpecRequest

# a read-only root leaves these writable: they are the kernel's, or small and private
_STAY_WRITABLE = frozenset({"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"})

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable")
# flag -> what it is about: of several about the same thing the last counts
_FLAGS = {
    **dict.fromkeys(_PROPAGATION, "propagation"),
    **dict.fromkeys(("ro", "rw"), "ro"),
    **dict.fromkeys(("suid", "nosuid"), "suid"),
    **dict.fromkeys(("dev", "nodev"), "dev"),
    **dict.fromkeys(("exec", "noexec"), "exec"),
    **dict.fromkeys(("sync", "async"), "sync"),
    **dict.fromkeys(("mand", "nomand"), "mand"),
    **dict.fromkeys(("atime", "noatime"), "atime"),
    **dict.fromkeys(("diratime", "nodiratime"), "diratime"),
    **dict.fromkeys(("relatime", "norelatime"), "relatime"),
    **dict.fromkeys(("strictatime", "nostrictatime"), "strictatime"),
    "dirsync": "dirsync",
}
_DATA = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_TMPFS_BASE = ("noexec", "nosuid", "nodev", "rprivate")


def tmpfs_options(text: str) -> list[str]:
    """Merge `--tmpfs` options with the defaults (noexec, nosuid, nodev).

    Raises:
        InvalidArgument: an option that a tmpfs does not have.
    """
    found: list[str] = []
    seen: set[str] = set()
    for option in reversed([*_TMPFS_BASE, *(text.split(",") if text else [])]):
        if option == "defaults":
            continue
        name, equals, _ = option.partition("=")
        subject = _FLAGS.get(option, "") or (f"{name}=" if equals and name in _DATA else "")
        if not subject:
            raise InvalidArgument(f'invalid tmpfs option "{name}"')
        if subject not in seen:
            seen.add(subject)
            found.append(option)
    return found[::-1]


def check_points(host: HostConfig) -> None:
    """Check `--mount type=tmpfs`, as dockerd does when a container is made; `--tmpfs` it reads at start.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    for point in host.mounts or []:
        if point.type == "tmpfs":
            _point_options(point)


def tmpfs_mounts(host: HostConfig) -> list[dict[str, Any]]:
    """`--tmpfs` and `--mount type=tmpfs`.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    found = [_tmpfs(target, tmpfs_options(options)) for target, options in sorted((host.tmpfs or {}).items())]
    found += [_tmpfs(point.target, _point_options(point)) for point in host.mounts or [] if point.type == "tmpfs"]
    return found


def _tmpfs(target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": _clean(target), "type": "tmpfs", "source": "tmpfs", "options": options}


def _point_options(point: MountPoint) -> list[str]:
    asked = point.tmpfs_options or {}
    if point.source:
        raise InvalidArgument('invalid mount config for type "tmpfs": field Source must not be specified')
    words = ["ro"] if point.read_only else []
    mode, size = asked.get("Mode") or 0, asked.get("SizeBytes") or 0
    if mode:
        words.append(f"mode={mode:o}")
    if size < 0:
        raise InvalidArgument('invalid mount config for type "tmpfs": size must be positive')
    if size:
        words.append(f"size={size}")
    words += ["=".join(str(part) for part in pair) for pair in asked.get("Options") or []]
    return tmpfs_options(",".join(words))


def _clean(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def depth(destination: str) -> int:
    """Sort key that puts outer mounts before inner ones; on one depth, sorted() keeps the user's order."""
    return _clean(destination).count("/")


def mounts(request: "SpecRequest", security: SecurityOptions) -> list[dict[str, Any]]:
    """`mounts` of the configuration: the kernel's file systems, then what is the user's and ours, outer before inner.

    A mount of the user takes the place of a default one on the same path; a user's `/dev` takes those below it too.
    """
    host = request.host_config
    own = [mount.to_json() for mount in request.mounts] + tmpfs_mounts(host)
    theirs = {_clean(str(mount["destination"])) for mount in own}
    base = [mount for mount in _kernel(request, security) if not _replaced(mount["destination"], theirs)]
    files = [mount.to_json() for mount in request.files if _clean(mount.destination) not in theirs]
    if host.init and request.mode("pid") == "new":
        files.append(_init(request))
    if host.readonly_rootfs:
        stay = _STAY_WRITABLE | _writable(host, security)
        for mount in [*base, *files]:
            options: list[str] = mount["options"]
            if mount["destination"] not in stay and "ro" not in options:
                options.append("ro")
    inner: list[dict[str, Any]] = [*own, *files]
    return [*base, *sorted(inner, key=lambda mount: depth(str(mount["destination"])))]


def _replaced(destination: str, theirs: set[str]) -> bool:
    return destination in theirs or ("/dev" in theirs and destination.startswith("/dev/"))


def _writable(host: HostConfig, security: SecurityOptions) -> frozenset[str]:
    """What is read-only by default and is not here."""
    if host.privileged:
        return frozenset({"/sys", "/sys/fs/cgroup"})
    return frozenset({"/sys/fs/cgroup"} if security.writable_cgroups else ())


def _kernel(request: "SpecRequest", security: SecurityOptions) -> list[dict[str, Any]]:
    host = request.host_config
    found = default_mounts(host.shm_size or 64 << 20)
    writable = _writable(host, security)
    result = []
    for mount in found:
        if mount["destination"] == "/dev/shm":
            shm = _shm(request, mount)
            if shm is not None:
                result.append(shm)
            continue
        if mount["destination"] in writable:
            mount["options"] = [option for option in mount["options"] if option != "ro"]
        result.append(mount)
    return result


def _shm(request: "SpecRequest", private: dict[str, Any]) -> dict[str, Any] | None:
    mode = request.mode("ipc")
    if request.host_config.ipc_mode == "none":
        return None
    if mode == "host":
        return {**private, "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"]}
    if mode == "join":
        return {**private, "type": "bind", "source": SHARED_MEMORY, "options": ["bind", "rprivate"]}
    return private


def _init(request: "SpecRequest") -> dict[str, Any]:
    tini = request.machine.tini
    if tini is None:
        raise InvalidArgument(
            'exec: "docker-init": executable file not found in $PATH: '
            "install the package tini, or set init-path in daemon.json"
        )
    return {"destination": INIT, "type": "bind", "source": tini, "options": ["bind", "ro"]}
