"""What is mounted in a container because somebody asked: `-v`, `--mount`, `--tmpfs`, read and checked.

Nothing here looks at the disk: what comes out are values (`points.Point`), with volumes by the names they were given.
"""

import os

from wherry.containers.points import Point
from wherry.errors import InvalidArgument, NotSupported
from wherry.volumes import names
from wherry.volumes import options as driver_options
from wherry.wire.containers import HostConfig, MountPoint

_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_LABELS = frozenset({"z", "Z"})
_HIGHEST_ID = (1 << 31) - 1
_IGNORED = frozenset({"cached", "delegated", "consistent"})


def parse(host: HostConfig) -> list[Point]:
    """Read `Binds` and `Mounts`.

    Raises:
        InvalidArgument: a malformed or duplicate entry, in dockerd's words.
        NotSupported: a volume driver or a kind of mount that this engine does not have.
    """
    points = [_parse(text) for text in host.binds or []]
    if any(point.type == "volume" for point in points):
        _check_driver(host.volume_driver)
    points += [_from_mount(mount) for mount in host.mounts or []]
    seen: set[str] = set()
    for target in [point.target for point in points] + [_clean(target) for target in host.tmpfs or {}]:
        if target in seen:
            raise InvalidArgument(f"Duplicate mount point: {target}")
        seen.add(target)
    return points


def anonymous_targets(volumes: dict[str, object] | None) -> list[str]:
    """The targets that `Config.Volumes` names: `-v /x`, and an image's `VOLUME`.

    Raises:
        InvalidArgument: one is no place for a volume.
    """
    found: list[str] = []
    for text in volumes or {}:
        if not text.startswith("/"):
            raise InvalidArgument(
                f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
                f"invalid mount path: '{text}' mount path must be absolute"
            )
        target = _clean(text)
        if target == "/":
            raise InvalidArgument(
                f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
                "invalid specification: destination can't be '/'"
            )
        if target not in found:
            found.append(target)
    return found


def parse_volumes_from(text: str) -> tuple[str, str]:
    """Read one `--volumes-from`: (container, mode).

    Raises:
        InvalidArgument: in dockerd's words.
    """
    if not text:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    container, colon, mode = text.partition(":")
    if not colon:
        return container, ""
    for word in mode.split(","):
        if word not in ("ro", "rw", "z", "Z"):
            raise InvalidArgument(f"invalid mode: {mode}")
    return container, mode


def _check_driver(name: str) -> None:
    if name not in ("", "local"):
        # the words make no client believe that an image is missing
        raise InvalidArgument(f'error looking up volume plugin {name}: plugin "{name}" is not there')


def _clean(path: str) -> str:
    clean = os.path.normpath(path)
    return clean[1:] if clean.startswith("//") else clean


# -- `-v`


def _parse(text: str) -> Point:
    parts = text.split(":")
    if len(parts) == 1 and parts[0]:
        target = anonymous_targets({text: {}})[0]
        return Point("volume", target, anonymous=True)
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    kind = "bind" if source.startswith("/") else "volume"
    wrong = f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
    if not target.startswith("/"):
        raise InvalidArgument(f"{wrong}invalid mount path: '{target}' mount path must be absolute")
    target = _clean(target)
    if target == "/":
        raise InvalidArgument(f"{wrong}invalid specification: destination can't be '/'")
    read_only, propagation, copy = _mode(mode, kind)
    if kind == "bind":
        return Point(
            "bind",
            target,
            source=_clean(source),
            mode=mode,
            read_only=read_only,
            propagation=propagation or "rprivate",
            create=True,
        )
    if propagation:
        raise InvalidArgument(f"{wrong}field BindOptions must not be specified")
    names.check(source)
    return Point("volume", target, name=source, mode=mode or "z", read_only=read_only, copy=copy)


def _mode(mode: str, kind: str) -> tuple[bool, str, bool]:
    """(read only, propagation, copy) of the third part of `-v`."""
    read_only, propagation, copy = False, "", True
    access = spreads = labels = copies = 0
    for word in mode.split(",") if mode else []:
        if word in ("ro", "rw"):
            read_only, access = word == "ro", access + 1
        elif word in _PROPAGATION:
            propagation, spreads = word, spreads + 1
        elif word in _LABELS:
            labels += 1
        elif word == "nocopy" and kind == "volume":
            copy, copies = False, copies + 1
        elif word not in _IGNORED:
            raise InvalidArgument(f"invalid mode: {mode}")
    if max(access, spreads, labels, copies) > 1:
        raise InvalidArgument(f"invalid mode: {mode}")
    return read_only, propagation, copy


# -- `--mount`


def _from_mount(mount: MountPoint) -> Point:
    wrong = f'invalid mount config for type "{mount.type}": '
    if not mount.target:
        raise InvalidArgument(f"{wrong}field Target must not be empty")
    make = {"bind": _bind, "volume": _volume, "image": _image, "tmpfs": _tmpfs}.get(mount.type)
    if make is None:
        if mount.type in ("cluster", "npipe"):
            raise NotSupported(f"mounts of type {mount.type} are not supported: {mount.target}")
        raise InvalidArgument(f"{wrong}mount type unknown")
    if not mount.target.startswith("/"):
        raise InvalidArgument(f"{wrong}invalid mount path: '{mount.target}' mount path must be absolute")
    target = _clean(mount.target)
    if target == "/":
        raise InvalidArgument(f"{wrong}invalid specification: destination can't be '/'")
    for kind, field, value in (
        ("bind", "BindOptions", mount.bind_options),
        ("volume", "VolumeOptions", mount.volume_options),
        ("tmpfs", "TmpfsOptions", mount.tmpfs_options),
        ("image", "ImageOptions", mount.image_options),
    ):
        if value is not None and kind == "bind" != mount.type:
            raise InvalidArgument(f'BindOptions must not be specified on mount type "{mount.type}"')
        if value and kind != mount.type:
            raise InvalidArgument(f"{wrong}field {field} must not be specified")
    return make(mount, target, wrong)


def _bind(mount: MountPoint, target: str, wrong: str) -> Point:
    if not mount.source:
        raise InvalidArgument(f"{wrong}field Source must not be empty")
    if not mount.source.startswith("/"):
        raise InvalidArgument(f"{wrong}invalid mount path: '{mount.source}' mount path must be absolute")
    options = mount.bind_options or {}
    propagation = options.get("Propagation") or "rprivate"
    if propagation not in _PROPAGATION:
        raise InvalidArgument(f"{wrong}invalid propagation mode: {propagation}")
    forced, plain = bool(options.get("ReadOnlyForceRecursive")), bool(options.get("ReadOnlyNonRecursive"))
    recursive = not options.get("NonRecursive")
    if forced and not mount.read_only:
        raise InvalidArgument(f"{wrong}mount source must be read-only for ReadOnlyForceRecursive")
    if forced and (plain or not recursive):
        raise InvalidArgument(f"{wrong}field ReadOnlyForceRecursive conflicts with the other fields of BindOptions")
    return Point(
        "bind",
        target,
        source=_clean(mount.source),
        read_only=mount.read_only,
        propagation=propagation,
        recursive=recursive,
        read_only_recursive=not plain,
        create=bool(options.get("CreateMountpoint")),
        idmap=_idmap(options.get("IDMap"), wrong),
    )


def _idmap(value: object, wrong: str) -> str:
    """`BindOptions.IDMap`, which is ours: `uid:gid` of the host."""
    if not value:
        return ""
    ids = str(value).split(":")
    if len(ids) != 2 or not all(part.isascii() and part.isdigit() and int(part) <= _HIGHEST_ID for part in ids):
        raise InvalidArgument(f"{wrong}IDMap must be two numbers, uid:gid: {value}")
    return f"{int(ids[0])}:{int(ids[1])}"


def _volume(mount: MountPoint, target: str, wrong: str) -> Point:
    options = mount.volume_options or {}
    driver = options.get("DriverConfig") or {}
    _check_driver(str(driver.get("Name") or ""))
    subpath = str(options.get("Subpath") or "")
    _check_subpath(subpath, "volume", wrong)
    settings = dict(driver.get("Options") or {})
    if mount.source:
        names.check(mount.source)
    driver_options.check(mount.source, settings)
    return Point(
        "volume",
        target,
        name=mount.source,
        anonymous=not mount.source,
        mode="z",
        read_only=mount.read_only,
        copy=not options.get("NoCopy") and not subpath,
        subpath=os.path.normpath(subpath) if subpath else "",
        labels=dict(options.get("Labels") or {}) or None,
        options=settings or None,
    )


def _check_subpath(subpath: str, what: str, wrong: str) -> None:
    if subpath and (subpath.startswith("/") or os.path.normpath(subpath).split("/")[0] == ".."):
        raise InvalidArgument(f"{wrong}subpath must be a relative path within the {what}")


def _image(mount: MountPoint, target: str, wrong: str) -> Point:
    if not mount.source:
        raise InvalidArgument(f"{wrong}field Source must not be empty")
    subpath = str((mount.image_options or {}).get("Subpath") or "")
    _check_subpath(subpath, "image", wrong)
    return Point(
        "image", target, source=mount.source, read_only=True, subpath=os.path.normpath(subpath) if subpath else ""
    )


def _tmpfs(mount: MountPoint, target: str, _wrong: str) -> Point:
    # its options are checked where it is made (`spec_mounts`)
    return Point("tmpfs", target, read_only=mount.read_only)
