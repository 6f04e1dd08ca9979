"""The state machine of a container: one table, and the only function that moves along it.

created ─start→ running ⇄ paused
running, paused ─exit→ exited ─start→ running
exited ─policy→ restarting ─start→ running       restarting ─stop→ exited
created, exited, dead ─remove→ removing ─failed→ dead
"""

from wherry.containers.model import Container
from wherry.errors import WherryError

TRANSITIONS: dict[str, frozenset[str]] = {
    "created": frozenset({"running", "removing", "exited"}),
    "running": frozenset({"paused", "exited", "restarting"}),
    "paused": frozenset({"running", "exited", "restarting"}),
    "restarting": frozenset({"running", "exited", "removing"}),
    "exited": frozenset({"running", "restarting", "removing"}),
    "removing": frozenset({"dead"}),
    "dead": frozenset({"removing"}),
}


def move(container: Container, status: str) -> None:
    """Move `container` to `status`.

    Raises:
        WherryError: the table has no such step: a defect of ours, never of the caller.
    """
    if status not in TRANSITIONS[container.status]:
        raise WherryError(f"container {container.id[:12]} cannot go from {container.status} to {status}")
    container.status = status


def recover(container: Container, status: str) -> None:
    """Set the status that was read back from what lives, at start-up only: there is no step to check."""
    container.status = status
