"""Short workers: processes that the spawner forks for one task, and their one table.

A worker is `callable(args, fds) -> result values or None`. Its descriptors are those of the request. Where one is named
`result`, progress lines (`progress`) and at the end one line of JSON go there: `{"ok": …}` or `{"error": …}`.
"""

from wherry.errors import to_wire
from wherry.monitor import logreader, removal
from wherry.monitor.progress import begin, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def _unpack(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.unpack import worker

    return worker(args, fds)


def _verify(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.verify import worker

    return worker(args, fds)


def _layer(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.sealing import layer_worker

    return layer_worker(args, fds)


def _changes(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.sealing import changes_worker

    return changes_worker(args, fds)


def _populate(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.monitor.populate import worker

    return worker(args, fds)


def _copy(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.monitor.copying import worker

    return worker(args, fds)


def _context(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.plaintar import context_worker

    return context_worker(args, fds)


def _files(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.copying import worker

    return worker(args, fds)


def _volume_copy(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.monitor.volume_copy import worker

    return worker(args, fds)


def _mount_volume(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.monitor.volume_mount import worker

    worker(args, fds)
    return None


def _fingerprint(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.digesting import digest_worker

    return digest_worker(args, fds)


def _rootfs(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.joined import rootfs_worker

    return rootfs_worker(args, fds)


def _seal(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.seal import worker

    return worker(args, fds)


def _export(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.view import export_worker

    return export_worker(args, fds)


def _measure(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.measure import measure_worker

    return measure_worker(args, fds)


def _squash(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any] | None":
    from wherry.snapshots.squash import worker

    return worker(args, fds)


KINDS: "dict[str, Callable[[dict[str, Any], dict[str, int]], Mapping[str, Any] | None]]" = {
    "changes": _changes,
    "context": _context,
    "files": _files,
    "fingerprint": _fingerprint,
    "export": _export,
    "copy": _copy,
    "layer": _layer,
    "logs": logreader.worker,
    "measure": _measure,
    "mount-volume": _mount_volume,
    "populate": _populate,
    "remove": removal.worker,
    "rootfs": _rootfs,
    "seal": _seal,
    "squash": _squash,
    "unpack": _unpack,
    "verify": _verify,
    "volume-copy": _volume_copy,
}


def run_worker(kind: str, args: "dict[str, Any]", fds: "dict[str, int]") -> None:
    """Run one task and report its end; raises what the task raised, after reporting it."""
    result = fds.get("result", -1)
    begin(result)
    try:
        value = KINDS[kind](args, fds)
    except BaseException as error:
        report(result, {"error": to_wire(error)})
        raise
    report(result, {"ok": value or {}})
