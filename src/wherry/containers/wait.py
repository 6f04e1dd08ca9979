"""Wait: a future for the next exit, the present state, or the removal."""

import asyncio
from typing import Any

from wherry.containers import health, settle
from wherry.containers.model import Container
from wherry.errors import InvalidArgument

CONDITIONS = ("not-running", "next-exit", "removed", "healthy")


def wait(container: Container, condition: str) -> "asyncio.Future[dict[str, Any]]":
    """Return a future of `{"StatusCode", "Error"?}`.

    Args:
        condition: `not-running` (done at once if it does not run), `next-exit`, `removed`, or our own `healthy`
            (see `health.wait`).

    Raises:
        InvalidArgument: another condition, in dockerd's words.
    """
    future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    condition = condition or "not-running"
    if condition not in CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    if condition == "healthy":
        return health.wait(container)
    if condition == "removed":
        container.removal_waiters.append(future)
    elif condition == "next-exit" or container.running or container.status == "restarting":
        container.exit_waiters.append(future)
    else:
        future.set_result(settle.status(container))
    return future
