"""OCI hooks: programs that get the container's state on stdin, and whose failure is the container's."""

import json
import os
import select

from wherry.errors import KernelError, WherryError
from wherry.linux import signals
from wherry.linux.clone import reap
from wherry.linux.process import pidfd_open, pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.oci.runtime_config import Hook

OCI_VERSION = "1.2.0"
_OUTPUT = 4096


def state_json(container_id: str, status: str, pid: int, bundle: str, annotations: "dict[str, str]") -> bytes:
    """The state document of runtime-spec."""
    state = {
        "ociVersion": OCI_VERSION,
        "id": container_id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
        "annotations": annotations,
    }
    if not pid:
        del state["pid"]
    return json.dumps(state).encode()


def run_hooks(kind: str, hooks: "Iterable[Hook]", state: bytes) -> None:
    """Run hooks in order.

    Raises:
        WherryError: the first one that fails; with the end of its output.
    """
    for index, hook in enumerate(hooks):
        try:
            _run(hook, state)
        except WherryError as error:
            raise WherryError(f"error running {kind} hook #{index}: {error}", hook=hook.path) from None


def _run(hook: "Hook", state: bytes) -> None:
    stdin = os.memfd_create("hook-state", os.MFD_CLOEXEC)
    output = os.memfd_create("hook-output", os.MFD_CLOEXEC)
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        environment = dict(entry.partition("=")[::2] for entry in hook.env)
        try:
            pid = os.posix_spawn(
                hook.path,
                hook.args,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsigmask=(),
                setsigdef=(signals.SIGPIPE, signals.SIGXFSZ, signals.SIGINT),
            )
        except OSError as error:
            raise KernelError("start hook", error.errno or 0, hook.path) from None
        code = _wait(pid, hook.timeout)
        if code is None:
            raise WherryError(f"{hook.path} took longer than {hook.timeout} seconds")
        if code != 0:
            text = os.pread(output, _OUTPUT, max(0, os.fstat(output).st_size - _OUTPUT)).decode("utf-8", "replace")
            raise WherryError(f"{hook.path}: exit status {code}, output: {text.strip()}")
    finally:
        os.close(stdin)
        os.close(output)


def _wait(pid: int, timeout: int | None) -> int | None:
    pidfd = pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            pidfd_send_signal(pidfd, signals.SIGKILL)
            reap(pidfd)
            return None
        return reap(pidfd)
    finally:
        os.close(pidfd)
