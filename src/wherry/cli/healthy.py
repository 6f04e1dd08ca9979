"""`--wait`: until a container is healthy, or as good as."""

import select
import time

from wherry.cli.failure import Failure
from wherry.cli.flags import Flag
from wherry.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.http import Client


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("must be a number of seconds")
    return int(text)


WAIT_FLAGS = (
    Flag("wait", "", "bool", "Wait until the container is healthy (where it has no health check: runs)"),
    Flag("wait-timeout", "", "int", "Seconds to wait with --wait, 0 is for ever (default 0)", check=_seconds),
)


def wait_healthy(client: "Client", container: str, name: str, seconds: int) -> int:
    """Wait until the container is healthy.

    Args:
        client: the engine's.
        container: id or name.
        name: how messages call it.
        seconds: at most so long; 0: for ever.

    Returns:
        0.

    Raises:
        Failure: it is unhealthy (status 1), has ended (its exit code), or the time is over (status 124).
    """
    deadline = time.monotonic() + seconds if seconds else None
    response = client.request("POST", f"/containers/{quote(container)}/wait", {"condition": "healthy"})
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    if not response.connection.has_more and not select.select([response], [], [], left)[0]:
        response.connection.close()
        raise Failure(f"Error: container {name} is not healthy after {seconds} seconds", 124)
    result = response.json() or {}
    if result.get("Error"):
        raise Failure(f"Error: {result['Error'].get('Message', '')}", int(result.get("StatusCode") or 1))
    return 0
