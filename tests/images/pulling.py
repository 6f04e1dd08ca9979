"""A store that pulls, and what registries want of it."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.settings import Settings
from wherry.errors import (
    DigestMismatch,
    HostileInput,
    InvalidArgument,
    NotSupported,
    StoreCorrupt,
)
from wherry.oci.reference import parse_normalized

from .conftest import Store
from .fake_registry import Registry, error

KEY = Credential("user", "s3cret")
DELAYS = (0.01, 0.01)
WRONG = (DigestMismatch, HostileInput, InvalidArgument, NotSupported, StoreCorrupt)


class Pulls:
    """A store, and registries to pull from."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registries: list[Registry] = []
        self.messages: list[dict[str, Any]] = []

    def registry(self, host: str = "127.0.0.1") -> Registry:
        """Start one more."""
        made = Registry(host)
        self.registries.append(made)
        self.store.run(made.start())
        return made

    def pull(
        self, name: str, credential: Credential = NOBODY, platform: str | None = None, **settings: Any
    ) -> list[str]:
        """Pull, and return the ids."""
        self.messages.clear()
        settings = {"certs": (), "delays": DELAYS, **settings}
        pulled = self.store.run(
            self.store.images.pull(
                Settings(**settings), parse_normalized(name), self.messages.append, credential, platform
            )
        )
        return [found.id for found in pulled]

    def refused(self, name: str, kind: Any = WRONG, **options: Any) -> str:
        """Pull in vain: nothing is left in the store. Returns the error's words."""
        with pytest.raises(kind) as caught:
            self.pull(name, **options)
        self.store.check()
        return str(caught.value)


@pytest.fixture
def pulls(store: Store) -> Iterator[Pulls]:
    """A store without registries yet."""
    made = Pulls(store)
    yield made
    for registry in made.registries:
        store.run(registry.stop())


def headers(seen: "list[tuple[str, str, dict[str, str]]]") -> list[str]:
    """Every Authorization that a registry saw."""
    return [head["authorization"] for _, _, head in seen if "authorization" in head]


def guarded(server: Registry, realm: str) -> Callable[[web.Request], Any]:
    """A registry that wants a token of `realm`."""

    async def ask(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/token":
            basic = "Basic " + base64.b64encode(b"user:s3cret").decode()
            if request.headers.get("Authorization") != basic:
                return error(401, "UNAUTHORIZED", "incorrect username or password")
            return web.json_response({"token": "T0KEN ".strip()})
        if request.headers.get("Authorization") == "Bearer T0KEN":
            return None
        challenge = f'Bearer realm="{realm}",service="here",scope="repository:a:pull"'
        return error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})

    return ask
