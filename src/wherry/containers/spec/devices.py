"""Device nodes that a container gets, and the device rules that go with them."""

import os
import stat
from collections.abc import Iterator
from typing import Any

from wherry.errors import InvalidArgument
from wherry.oci.isolation import default_device_rules
from wherry.wire.containers import Device, HostConfig

# of the host's /dev these belong to whoever mounted them there
_NOT_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


class HostDevices:
    """The host's device files; tests hand in one of their own."""

    def __init__(self, root: str = "/dev") -> None:
        self.root = root

    def all(self) -> list[dict[str, Any]]:
        """Every device node below /dev, as OCI device objects, by path."""
        return [node for path in self._walk(self.root) if (node := self._node(path, path))]

    def at(self, path: str, inside: str) -> list[dict[str, Any]]:
        """The node at `path`, or all nodes below it when it is a directory; paths as they are to be inside.

        Raises:
            InvalidArgument: nothing is there, or it is no device, in dockerd's words.
        """
        problem = f'error gathering device information while adding custom device "{path}"'
        real = os.path.realpath(path)
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            reason = "no such file or directory" if isinstance(error, FileNotFoundError) else error.strerror
            raise InvalidArgument(f"{problem}: {reason}") from None
        if not stat.S_ISDIR(mode):
            node = self._node(real, inside)
            if node is None:
                raise InvalidArgument(f"{problem}: not a device node")
            return [node]
        found = [
            node for each in self._walk(real) if (node := self._node(each, inside.rstrip("/") + each[len(real) :]))
        ]
        if not found:
            raise InvalidArgument(f"{problem}: not a device node")
        return found

    def number(self, path: str) -> tuple[int, int]:
        """Major and minor of a block device, for I/O limits.

        Raises:
            InvalidArgument: it is not there.
        """
        try:
            info = os.stat(path)
        except OSError as error:
            reason = "no such file or directory" if isinstance(error, FileNotFoundError) else error.strerror
            raise InvalidArgument(f"stat {path}: {reason}") from None
        return os.major(info.st_rdev), os.minor(info.st_rdev)

    def _walk(self, directory: str) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            return  # gone, or not ours to read: no device for the container there
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NOT_DEVICES:
                    yield from self._walk(entry.path)
            elif entry.name != "console":
                yield entry.path

    def _node(self, path: str, inside: str) -> dict[str, Any] | None:
        try:
            info = os.lstat(path)
        except OSError:
            return None
        if stat.S_ISCHR(info.st_mode):
            kind = "c"
        elif stat.S_ISBLK(info.st_mode):
            kind = "b"
        else:
            return None
        return {
            "path": inside,
            "type": kind,
            "major": os.major(info.st_rdev),
            "minor": os.minor(info.st_rdev),
            "fileMode": stat.S_IMODE(info.st_mode),
            "uid": info.st_uid,
            "gid": info.st_gid,
        }


def devices(host: HostConfig, seen: HostDevices) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`linux.devices` and `linux.resources.devices`.

    Raises:
        InvalidArgument: a device that is not there, a malformed rule.
    """
    if host.privileged:
        nodes = {node["path"]: node for node in seen.all()}
        for device in host.devices or []:
            if device.path_on_host != _inside(device):
                nodes.update({node["path"]: node for node in seen.at(device.path_on_host, _inside(device))})
        return list(nodes.values()), [{"allow": True, "access": "rwm"}]
    nodes = {}
    rules = default_device_rules()
    for device in host.devices or []:
        access = device.cgroup_permissions or "rwm"
        for node in seen.at(device.path_on_host, _inside(device)):
            nodes[node["path"]] = node
            numbers = {key: node[key] for key in ("type", "major", "minor")}
            rules.append({"allow": True, **numbers, "access": access})
    rules += [parse_rule(text) for text in host.device_cgroup_rules or []]
    return list(nodes.values()), rules


def _inside(device: Device) -> str:
    return device.path_in_container or device.path_on_host


def parse_rule(text: str) -> dict[str, Any]:
    """`--device-cgroup-rule`: `c 1:3 rwm`, numbers may be `*`, the type `a`.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    words = text.split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    good = (
        len(words) == 3
        and words[0] in ("a", "b", "c")
        and len(numbers) == 2
        and all(number == "*" or (number.isascii() and number.isdigit()) for number in numbers)
        and 0 < len(words[2]) <= 3
        and not words[2].strip("rwm")
    )
    if not good:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    major, minor = (-1 if number == "*" else int(number) for number in numbers)
    return {"allow": True, "type": words[0], "major": major, "minor": minor, "access": words[2]}
