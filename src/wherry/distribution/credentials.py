"""What a caller may prove to a registry, as Docker's clients send it (`X-Registry-Auth`, `X-Registry-Config`).

A credential never shows its secrets: neither `repr` nor an error has them.
"""

import base64
import binascii
from typing import Any

import msgspec

from wherry.errors import InvalidArgument

HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HEADER_LIMIT = 64 << 10


class Credential:
    """A user and password, or a token that stands for them.

    Args:
        username, password: of basic auth, and of a token server's.
        identity_token: a refresh token of the token server's (OAuth 2).
        registry_token: a token that is sent to the registry as it is.
        server: the registry that they are for, as the client names it.
    """

    __slots__ = ("identity_token", "password", "registry_token", "server", "username")

    def __init__(
        self,
        username: str = "",
        password: str = "",
        identity_token: str = "",
        registry_token: str = "",
        server: str = "",
    ) -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token
        self.registry_token = registry_token
        self.server = server

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")

    def __bool__(self) -> bool:
        return bool((self.username and self.password) or self.identity_token or self.registry_token)

    def __repr__(self) -> str:
        return f"Credential(username={self.username!r}, server={self.server!r})"


NOBODY = Credential()


def from_header(value: str) -> Credential:
    """Read `X-Registry-Auth`: base64url of Docker's AuthConfig; nothing, or what is none, is nobody, as in dockerd."""
    try:
        return from_json(_decode(value)) if value else NOBODY
    except InvalidArgument:
        return NOBODY


def from_json(value: Any) -> Credential:
    """Read Docker's AuthConfig (`username`, `password`, `auth`, `identitytoken`, `registrytoken`, `serveraddress`).

    Raises:
        InvalidArgument: it is no object, or its `auth` is not base64 of `user:password`.
    """
    if not isinstance(value, dict):
        raise InvalidArgument("invalid X-Registry-Auth header: not a JSON object")

    def text(key: str) -> str:
        found = value.get(key)
        return found if isinstance(found, str) else ""

    username, password = text("username"), text("password")
    if text("auth") and not username:
        try:
            username, _, password = base64.b64decode(text("auth")).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            raise InvalidArgument("invalid auth configuration: auth is not base64") from None
    return Credential(
        username, password.rstrip("\0"), text("identitytoken"), text("registrytoken"), text("serveraddress")
    )


def server_host(server: str) -> str:
    """Return the registry that a server address means: `https://index.docker.io/v1/` is `docker.io`."""
    host = server.strip()
    if host in HUB_KEYS or not host:
        return "docker.io"
    host = host.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if host in HUB_KEYS else host


def _decode(value: str) -> Any:
    if len(value) > _HEADER_LIMIT:
        raise InvalidArgument("invalid X-Registry-Auth header: too long")
    text = value.replace("+", "-").replace("/", "_").rstrip("=")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise InvalidArgument("invalid X-Registry-Auth header") from None
