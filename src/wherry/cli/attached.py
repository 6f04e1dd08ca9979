"""Attaching to a container: the stream, then its exit, in the order in which Docker's command does it."""

from wherry.cli.failure import Failure
from wherry.cli.signals import follow_window
from wherry.cli.streams import DETACHED, WATCHED, Session
from wherry.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.connection import Response
    from wherry.client.http import Client


def check_terminal(stdin: bool, tty: bool) -> None:
    """Raises `Failure` when a terminal is asked for and stdin is none."""
    import os

    if stdin and tty and not os.isatty(0):
        raise Failure("the input device is not a TTY")


def attach(
    client: "Client", container: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool, detach_keys: str = ""
) -> Session:
    """Hijack a container's streams."""
    connection, tail = client.hijack(
        f"/containers/{quote(container)}/attach",
        {
            "stream": 1,
            "stdin": stdin or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
            "detachKeys": detach_keys,
        },
    )
    return Session(connection, tail, tty=tty, stdin=stdin, output=stdout or stderr, detach_keys=detach_keys)


def expect_exit(client: "Client", container: str, *, removed: bool) -> "Response":
    """Ask for the exit before the start, so that none is missed; its head is here when this returns."""
    condition = "removed" if removed else "next-exit"
    return client.request("POST", f"/containers/{quote(container)}/wait", {"condition": condition})


def exit_status(waiting: "Response") -> int:
    """The exit code, once it is there. Raises `Failure` when the engine could not tell."""
    result: Any = waiting.json() or {}
    if result.get("Error") and result["Error"].get("Message"):
        raise Failure(f"Error waiting for container: {result['Error']['Message']}", 125)
    return int(result.get("StatusCode", 125))


def follow(client: "Client", container: str, session: Session, waiting: "Response", *, tty: bool, output: bool) -> int:
    """Stream until the container ends or the caller detaches.

    Returns:
        The exit code; 0 when detached.
    """
    try:
        if tty:
            session.resize = follow_window(client, f"/containers/{quote(container)}")
        how = session.run(waiting)
        if how == WATCHED and output:
            # it ended; what it wrote before may still be on the way
            how = session.run()
        if how == DETACHED:
            return 0
    finally:
        session.close()
    return exit_status(waiting)
