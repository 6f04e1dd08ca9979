"""From a registry's answers, and from what the network says, to our errors; the words are those of Docker's users.

The facts of an error carry `status` and `code` (the distribution-spec's, `MANIFEST_UNKNOWN`), so that nobody has to
look into its words.
"""

import errno
import os
import socket
import ssl

import aiohttp
import msgspec
from yarl import URL

from wherry import errors
from wherry.distribution.guard import Blocked
from wherry.errors import Unavailable, WherryError
from wherry.linux.tls import words

BODY_LIMIT = 64 << 10
TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
_CLASSES: dict[int, type[WherryError]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
}


def from_answer(method: str, url: URL, status: int, body: bytes) -> WherryError:
    """Make the error of an answer whose status is none of those that were hoped for."""
    kind = _CLASSES.get(status, Unavailable if status in TRANSIENT else WherryError)
    code, text = _first_error(body)
    if code:
        return kind(text, status=status, code=code)
    where = f'{method.capitalize()} "{url.with_query(None)}"'
    if status == 401:
        return kind(f"{where}: no basic auth credentials", status=status, code="UNAUTHORIZED")
    return kind(f"{where}: unexpected status from the registry: {status}", status=status, code="")


def from_network(method: str, url: URL, error: BaseException) -> WherryError:
    """Make the error of a request that got no answer."""
    where = f'{method.capitalize()} "{url.with_query(None)}"'
    reason = _reason(url, error)
    refused = isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError)
    return Unavailable(
        f"{where}: {reason}", status=0, code="", unreachable=refused, timeout=isinstance(error, TimeoutError)
    )


def is_tls(error: BaseException) -> bool:
    """Whether the two do not agree on TLS: the server may speak plain http."""
    return isinstance(error, aiohttp.ClientSSLError)


def _first_error(body: bytes) -> tuple[str, str]:
    """Code and words of a distribution-spec error document; empty where it is none."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    listed = document.get("errors")
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        code = listed[0].get("code")
        if isinstance(code, str) and code:
            message = listed[0].get("message")
            said = message if isinstance(message, str) else ""
            return code.upper(), _clean(f"{code.lower().replace('_', ' ')}: {said or 'unknown error'}")
    # Hub's token server says `details`
    for key in ("details", "message"):
        if isinstance(document.get(key), str):
            return "UNKNOWN", _clean(document[key])
    return "", ""


def _clean(text: str) -> str:
    """What a registry says may end on a terminal: no control characters, no novel."""
    return "".join(character if character.isprintable() else " " for character in text[:1024])


def _reason(url: URL, error: BaseException) -> str:
    place = f"{url.host}:{url.port}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate(error.certificate_error, url)
    if isinstance(error, aiohttp.ClientSSLError):
        text = str(getattr(error, "os_error", error))
        if "WRONG_VERSION" in text or "RECORD_LAYER" in text or "PACKET_LENGTH" in text:
            return "http: server gave HTTP response to HTTPS client"
        return f"tls: {_clean(text)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, Blocked):
            return f"dial tcp: {cause}: refused"
        if isinstance(cause, socket.gaierror) or isinstance(error, aiohttp.ClientConnectorDNSError):
            if getattr(cause, "errno", None) == socket.EAI_AGAIN:
                return f"dial tcp: lookup {url.host}: temporary failure in name resolution"
            return f"dial tcp: lookup {url.host}: no such host"
        if cause.errno:
            return f"dial tcp {place}: connect: {os.strerror(cause.errno).lower()}"
        return f"dial tcp {place}: {_clean(str(cause))}"
    if isinstance(error, TimeoutError):
        connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
        return f"dial tcp {place}: i/o timeout" if connecting else "net/http: timeout awaiting an answer"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, OSError) and error.errno == errno.ECONNRESET:
        return "connection reset by peer"
    return _clean(str(error)) or type(error).__name__


def _certificate(error: Exception, url: URL) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return words(error, url.host or "")
    return f"tls: failed to verify certificate: {_clean(str(error))}"
