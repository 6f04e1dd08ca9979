"""How a command ends when it does not end well, and the one table from failures to exit codes."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Docker's: a flag that is not understood, and everything that keeps `run` from starting process 1
USAGE = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127

# what a person reads when process 1 could not be started decides the code, as in the docker command
_START_WORDS = (
    ("executable file not found", NOT_FOUND),
    ("no such file or directory", NOT_FOUND),
    ("permission denied", NOT_EXECUTABLE),
    ("is a directory", NOT_EXECUTABLE),
)


class Failure(Exception):
    """Ends the command.

    Args:
        message: for stderr; nothing is printed when it is empty.
        status: exit code.
    """

    def __init__(self, message: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def file_failure(call: str, path: str, error: OSError) -> Failure:
    """A failure about a file of the user's, in the words that Docker's users know (`open x: no such file…`)."""
    import os

    return Failure(f"{call} {path}: {os.strerror(error.errno or 0).lower()}")


def with_help(message: str, command: str) -> str:
    """The words of `run` and `create` when they fail: prefixed, with the way to the help."""
    return f"wherry: {message}\n\nRun 'wherry {command} --help' for more information"


def start_failure(message: str, command: str = "run") -> Failure:
    """What became of a container that did not start: 125, 126 or 127."""
    for words, status in _START_WORDS:
        if words in message:
            return Failure(with_help(message, command), status)
    return Failure(with_help(message, command), USAGE)


def joined(messages: "Iterable[str]") -> None:
    """Raise one failure of several messages; returns when there are none."""
    text = "\n".join(messages)
    if text:
        raise Failure(text)
