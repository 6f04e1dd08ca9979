"""The worker that mounts a volume which is a file system of its own: in a namespace of its own, never the host's.

Its descriptor is all that is left of it: every monitor whose container uses the volume holds it, and when the last one
lets go the kernel unmounts it.
"""

import os

from wherry.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> None:
    """Mount it, and send the namespace.

    Args:
        args: `type`, `device` and `words` as `mount(8)` would be told them; `target`, the directory to mount it on.
        fds: `channel`, which takes one message with the descriptor `namespace`.

    Raises:
        KernelError: it cannot be mounted, in dockerd's words.
    """
    from wherry.linux import mount as m
    from wherry.linux.channel import Channel
    from wherry.linux.namespace import CLONE_NEWNS, open_namespace, unshare
    from wherry.runtime.mount_options import sort_options

    options = sort_options(tuple(args["words"]))
    unshare(CLONE_NEWNS)
    m.make_all_slave()
    data = ",".join(options.data)
    try:
        m.mount(args["device"], args["target"], args["type"], options.flags, data)
        for kind, recursive in options.propagation:
            top = os.open(args["target"], os.O_PATH | os.O_DIRECTORY)
            m.set_attributes(top, propagation=kind, recursive=recursive)
            os.close(top)
    except KernelError as error:
        flags = f", flags: {options.flags:#x}" if options.flags else ""
        told = f", data: {_without_secrets(data)}" if data else ""
        raise KernelError(
            f"error while mounting volume '{args['target']}': failed to mount local volume: "
            f"mount {args['device']}:{args['target']}{flags}{told}",
            error.errno or 0,
        ) from None
    namespace = open_namespace("mount")
    Channel.from_fd(fds["channel"]).send({}, {"namespace": namespace})


def _without_secrets(data: str) -> str:
    return ",".join("password=***" if word.startswith("password=") else word for word in data.split(","))
