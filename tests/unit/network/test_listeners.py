"""Who listens where, as `network check` tells it."""

import os
import socket

import pytest

from wherry.network.checkup import listener


@pytest.mark.parametrize(
    ("address", "reached", "words"),
    [("127.0.0.1", False, "own loopback only"), ("0.0.0.0", True, "something listens on")],
)
def test_a_listener_that_others_reach(address: str, reached: bool, words: str) -> None:
    """Listening on the container's own loopback is not enough, and not listening is less."""
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        found = listener(os.getpid(), port, "tcp")
        assert (found.ok, words in found.text) == (reached, True)
    found = listener(os.getpid(), port, "tcp")
    assert (found.ok, "nothing listens on" in found.text) == (False, True)
