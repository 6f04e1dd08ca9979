"""The key `accounts` of the configuration file.

accounts:
  enabled: true                 without it: as soon as the first user was added, which closes a running server, too
  database: ""                  SQLAlchemy URL; SQLite below the root if empty
  url: ""                       how clients reach the server (https://registry.example.com); else what they sent
  sign_up: off                  off, invitation or open
  new_repositories: private     what a repository is that a push makes: private or public
  token_lifetime: 5m
  session_lifetime: 14d
  attempts: 10                  wrong passwords per account and address in 15 minutes before logins must wait
  proxies: []                   networks whose X-Forwarded-For and X-Forwarded-Proto are believed
"""

import ipaddress
from typing import Literal, cast
from urllib.parse import urlsplit

from msgspec import Struct, field

from wherry.errors import InvalidArgument
from wherry.registry.units import Amount, seconds

SignUp = Literal["off", "invitation", "open"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AccountSettings(Struct, forbid_unknown_fields=True):
    """Everything that can be set about accounts."""

    enabled: bool | None = None
    database: str = ""
    url: str = ""
    sign_up_text: Literal["off", "invitation", "open"] | bool = field(default="off", name="sign_up")
    new_repositories: Literal["private", "public"] = "private"
    token_lifetime_text: Amount = field(default="5m", name="token_lifetime")
    session_lifetime_text: Amount = field(default="14d", name="session_lifetime")
    attempts: int = 10
    proxies: list[str] = field(default_factory=list)

    @property
    def sign_up(self) -> SignUp:
        """Who may make an account; YAML 1.1 reads a plain `off` as false."""
        return "off" if self.sign_up_text is False else cast("SignUp", self.sign_up_text)

    @property
    def token_lifetime(self) -> int:
        """Seconds for which a bearer token is good."""
        return int(seconds(self.token_lifetime_text))

    @property
    def session_lifetime(self) -> int:
        """Seconds after which somebody signed in must sign in again."""
        return int(seconds(self.session_lifetime_text))

    @property
    def networks(self) -> list[Network]:
        """Of the proxies that are believed."""
        return [ipaddress.ip_network(text, strict=False) for text in self.proxies]

    def check(self) -> None:
        """Refuse what the types allow and no server can do.

        Raises:
            InvalidArgument: names the key.
        """
        if self.sign_up_text is True:
            raise InvalidArgument("accounts.sign_up: off, invitation or open")
        if not 60 <= self.token_lifetime <= 3600:
            raise InvalidArgument("accounts.token_lifetime: between 60s and 1h")
        if self.session_lifetime < 60:
            raise InvalidArgument("accounts.session_lifetime: at least 60s")
        if not 1 <= self.attempts <= 1000:
            raise InvalidArgument("accounts.attempts: between 1 and 1000")
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
                raise InvalidArgument("accounts.url: http or https, a host, and no path")
        try:
            _ = self.networks
        except ValueError as error:
            raise InvalidArgument(f"accounts.proxies: {error}") from None
