"""wherryd that kills itself at the Nth step of a verb on networks: `python -m tests.network.killed_engine N_FILE …`.

A step is the beginning of anything that outlives a crash: a record written or removed, a device made or deleted, rules
changed, a monitor asked. While the file is there they are counted, and the one whose number it holds is never begun.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wherry import daemon
from wherry.containers import records
from wherry.engine import rewiring
from wherry.monitor.handle import MonitorHandle
from wherry.network import catalogue, device
from wherry.network.firewall import Firewall

STEPS: list[tuple[Any, str]] = [
    (catalogue, "save"),
    (catalogue, "forget"),
    (device, "ensure"),
    (device, "remove"),
    (records, "save"),
    (rewiring, "write_atomic"),
    (MonitorHandle, "request"),
    (Firewall, "set_networks"),
    (Firewall, "publish"),
    (Firewall, "unpublish"),
]


# what names do beside a verb, at a time of their own, and say again to whoever comes after
_BESIDE = ("resolver", "ports")


def _counted(step: Callable[..., Any], armed: Path, done: list[str]) -> Callable[..., Any]:
    @functools.wraps(step)
    def run(*args: Any, **kwargs: Any) -> Any:
        if step.__name__ == "request" and args[1] in _BESIDE:
            return step(*args, **kwargs)
        try:
            last = int(armed.read_text())
        except FileNotFoundError:
            done.clear()
            return step(*args, **kwargs)
        done.append(step.__name__)
        if len(done) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)

    return run


def main() -> int:
    """Run wherryd with its steps counted."""
    armed = Path(sys.argv.pop(1))
    done: list[str] = []
    for owner, name in STEPS:
        setattr(owner, name, _counted(getattr(owner, name), armed, done))
    return daemon.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
