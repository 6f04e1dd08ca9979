"""The one table from error class to HTTP status, looked up along the class's MRO, and the JSON of an error."""

import errno
import logging
import os
import secrets

import msgspec

from wherry import errors
from wherry.errors import WherryError
from wherry.linux import descriptors

log = logging.getLogger("wherry.api")

STATUS: dict[type[BaseException], int] = {
    errors.InvalidArgument: 400,
    errors.CommandNotFound: 400,
    errors.CommandNotExecutable: 400,
    errors.AmbiguousPrefix: 400,
    errors.HostileInput: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.AlreadyInState: 304,
    errors.NotSupported: 501,
    errors.Unavailable: 503,
    errors.TooManyOpenFiles: 503,
    errors.WherryError: 500,
}

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_encode = msgspec.json.Encoder().encode


def status_of(error: BaseException) -> int:
    """Give the status of the most specific class in `STATUS` that `error` is of; 500 for a foreign error."""
    for cls in type(error).__mro__:
        status = STATUS.get(cls)
        if status is not None:
            return status
    return 500


def describe(error: BaseException, where: str) -> tuple[int, str]:
    """Give status and client's text of an error; what is our fault (500) is logged with an id that the text repeats.

    Args:
        where: the request, for the log (`POST /containers/create`).
    """
    if isinstance(error, OSError) and error.errno in descriptors.EXHAUSTED:
        error = descriptors.exhausted(error)
    status = status_of(error)
    if status != 500:
        return status, str(error)
    request_id = secrets.token_hex(6)
    if isinstance(error, WherryError):
        # the words are for the client as they are: CLIs match on them
        level = logging.INFO if isinstance(error, errors.PortUnavailable) else logging.ERROR
        log.log(level, "request %s (%s) failed: %s", request_id, where, error)
        return status, str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        # the machine's state and no defect: who asked can do something about it
        log.error("request %s (%s) failed: %s", request_id, where, error)
        what = f"{error.filename}: " if error.filename else ""
        return status, f"{what}{os.strerror(error.errno).lower()}"
    log.error("request %s (%s) failed", request_id, where, exc_info=error)
    if isinstance(error, OSError) and error.errno:
        reason = f"{error.filename}: {os.strerror(error.errno).lower()}" if error.filename else str(error.strerror)
    else:
        reason = f"unexpected {type(error).__name__}"  # its words may hold anything
    return status, f"{where} failed: {reason}; wherryd's log has more under request {request_id}"


def error_body(message: str) -> bytes:
    """Render `{"message": …}` as dockerd does, newline included."""
    return _encode({"message": message}) + b"\n"


def in_band(message: str) -> bytes:
    """Render the line that tells of an error after a stream's first byte."""
    return _encode({"errorDetail": {"message": message}, "error": message}) + b"\n"
