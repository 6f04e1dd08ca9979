"""What can go wrong between the command and the engine."""

from wherry.errors import Unavailable, WherryError


class ServerError(WherryError):
    """The engine answered with an error.

    Args:
        status: HTTP status.
        message: its `message`, Docker's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}", status=status)
        self.status = status
        self.reason = message


class CannotConnect(Unavailable):
    """Nobody answers at the address."""


class ProtocolError(Unavailable):
    """The peer does not speak HTTP as it should, or went away in the middle of an answer."""
