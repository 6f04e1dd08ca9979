"""Proving to a registry who asks: basic, or Docker's token flow, with a password or an identity token.

https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/.
"""

import asyncio
import time
from collections.abc import Iterable
from urllib.parse import urlencode

import msgspec
from yarl import URL

from wherry.distribution import guard
from wherry.distribution.challenge import Challenge
from wherry.distribution.credentials import Credential
from wherry.distribution.settings import host_of
from wherry.distribution.transport import Transport, document, refusal
from wherry.errors import Forbidden, HostileInput, Unauthorized

_CLIENT = "wherry"
_ANSWER_LIMIT = 1 << 20
_DEFAULT_SECONDS = 60
_MARGIN = 5


class Authorizer:
    """What is sent to one endpoint for one caller; tokens are kept for as long as they hold.

    Args:
        transport: to the endpoint.
        credential: the caller's, or nobody's.
        realms: further hosts whose token servers may see the credential.
    """

    def __init__(self, transport: Transport, credential: Credential, realms: Iterable[str] = ()) -> None:
        self._transport = transport
        self._credential = credential
        self._realms = tuple(realms)
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = asyncio.Lock()
        self.identity_token = credential.identity_token

    def challenged(self, challenges: Iterable[Challenge]) -> bool:
        """Take what the registry asks for; returns whether it is something that we can give."""
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                self._challenge = challenge
                return True
            if challenge.scheme == "basic":
                self._challenge = challenge
                return bool(self._credential.username)
        return False

    def forget(self, scope: str) -> None:
        """Drop a token that the registry did not take."""
        self._tokens.pop(scope, None)

    async def header(self, scope: str) -> str | None:
        """Return the `Authorization` for a request.

        Args:
            scope: `repository:library/busybox:pull`, several by blanks; empty asks only who it is.

        Raises:
            Unauthorized, Forbidden: the token server refuses.
        """
        if self._credential.registry_token:
            return f"Bearer {self._credential.registry_token}"
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            return self._credential.basic if self._credential.username else None
        async with self._lock:
            token, until = self._tokens.get(scope, ("", 0.0))
            if time.monotonic() >= until:
                token, seconds = await self._fetch(self._challenge, scope)
                self._tokens[scope] = (token, time.monotonic() + max(seconds - _MARGIN, seconds / 2))
        return f"Bearer {token}"

    async def _fetch(self, challenge: Challenge, scope: str) -> tuple[str, float]:
        root = self._transport.root
        realm = self._transport.target(challenge.parameters["realm"], root, "its token server")
        trusted = guard.may_see_credential(realm, root, self._realms)
        service = challenge.parameters.get("service", "")
        if self.identity_token and trusted:
            return await self._oauth(realm, service, scope)
        query = [("service", service)] if service else []
        query += [("scope", part) for part in scope.split()]
        authorization = None
        if self._credential.username and trusted:
            query += [("account", self._credential.username)]
            if not scope:
                query += [("client_id", _CLIENT), ("offline_token", "true")]
            authorization = self._credential.basic
        url = realm.update_query(query) if query else realm
        try:
            return await self._token("GET", url, {}, authorization=authorization)
        except (Unauthorized, Forbidden) as error:
            if self._credential and not trusted:
                raise Unauthorized(
                    f"registry {host_of(root)} sends to a token server of another site ({host_of(realm)}), which "
                    f"got no credential: {error}",
                    status=401,
                    code="UNAUTHORIZED",
                ) from None
            raise

    async def _oauth(self, realm: URL, service: str, scope: str) -> tuple[str, float]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self.identity_token,
            "service": service,
            "client_id": _CLIENT,
            "scope": scope,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._token("POST", realm, headers, body=urlencode(form).encode())

    async def _token(
        self,
        method: str,
        url: URL,
        headers: dict[str, str],
        *,
        authorization: str | None = None,
        body: bytes | None = None,
    ) -> tuple[str, float]:
        answer = await self._transport.send(
            method, url, {"Accept": "application/json", **headers}, authorization=authorization, body=body
        )
        if answer.status != 200:
            raise await refusal(answer)
        raw = await document(answer, _ANSWER_LIMIT, "the token server's answer")
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            value = None
        value = value if isinstance(value, dict) else {}
        token = value.get("token") or value.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise HostileInput(f"token server {host_of(url)}: its answer has no token")
        if isinstance(value.get("refresh_token"), str):
            self.identity_token = value["refresh_token"]
        seconds = value.get("expires_in")
        return token, float(seconds) if isinstance(seconds, int | float) and seconds > 0 else _DEFAULT_SECONDS
