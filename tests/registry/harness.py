"""A registry in a thread, and a client that speaks to it byte by byte where a library would be too polite."""

import asyncio
import hashlib
import http.client
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from wherry.registry.access import Authorizer
from wherry.registry.config import Settings
from wherry.registry.server import create_app, create_service

if TYPE_CHECKING:
    from wherry.registry.service import Service

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str = LAYER) -> dict[str, Any]:
    """A descriptor of bytes."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def manifest_of(config: bytes, *layers: bytes, **more: Any) -> bytes:
    """An image manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(layer) for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error's code."""
        return str(self.json["errors"][0]["code"])


class Client:
    """Requests to one server, each on a connection of its own."""

    def __init__(self, host: str, port: int, headers: dict[str, str] | None = None) -> None:
        self.host, self.port = host, port
        self.headers = headers or {}

    def __call__(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Make a request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def start(self, name: str) -> str:
        """Begin an upload; returns its location."""
        answer = self("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202, answer.body
        return str(answer.headers["Location"])

    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob; returns its digest."""
        digest = digest_of(data, algorithm)
        answer = self("PUT", f"{self.start(name)}?digest={digest}", data)
        assert answer.status == 201, answer.body
        return digest

    def push_manifest(self, name: str, reference: str, raw: bytes, media_type: str = MANIFEST) -> Answer:
        """Push a manifest."""
        return self("PUT", f"/v2/{name}/manifests/{reference}", raw, {"Content-Type": media_type})

    def push_image(self, name: str, tag: str, *layers: bytes, **more: Any) -> str:
        """Push a whole image; returns its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "salt": os.urandom(4).hex()}).encode()
        for data in (config, *layers):
            self.push_blob(name, data)
        raw = manifest_of(config, *layers, **more)
        answer = self.push_manifest(name, tag, raw)
        assert answer.status == 201, answer.body
        return digest_of(raw)


class Registry(Client):
    """A registry that serves from a thread of this process.

    Args:
        root: where everything lies.
        authorizer: who may do what.
        settings: as in the configuration file.
    """

    def __init__(self, root: Path, authorizer: Authorizer | None = None, **settings: Any) -> None:
        self.root = root
        values = {"root": str(root), "gc": {"interval": 0}, **settings}
        self.service: Service = create_service(msgspec.convert(values, Settings), authorizer)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._port = 0
        self._thread.start()
        assert self._ready.wait(20)
        super().__init__("127.0.0.1", self._port)

    async def _serve(self) -> None:
        await asyncio.to_thread(self.service.repositories.catch_up)
        runner = web.AppRunner(create_app(self.service), access_log=None, auto_decompress=False, shutdown_timeout=5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self.service.close()
