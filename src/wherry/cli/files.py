"""Files of the user's that the engine reads from, or that its answers go into."""

import os

from wherry.cli.failure import file_failure
from wherry.cli.output import write_all
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.connection import Response


def open_source(path: str) -> int:
    """Open a file to upload; raises Failure (`open x: no such file…`)."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise file_failure("open", path, error) from None


def save(response: "Response", path: str) -> None:
    """Write an answer's body to a file, which has its name when it is whole; to standard output for an empty path.

    Raises:
        Failure: the file cannot be made or written.
        WherryError: the answer broke off.
    """
    if not path:
        while data := response.read_some():
            write_all(1, data)
        return
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise file_failure("open", path, error) from None
    try:
        while data := response.read_some():
            write_all(fd, data)
        os.fsync(fd)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, WherryError):
            raise file_failure("write", path, error) from None
        raise
    finally:
        os.close(fd)
