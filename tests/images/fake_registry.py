"""A registry of the tests' own, on any loopback address, that does what it is told to, and remembers who asked."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from wherry.oci import image as documents

Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


def digest(data: bytes) -> str:
    """The sha256 digest."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(name: str, content: bytes = b"content") -> bytes:
    """A tar with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Registry:
    """Serves `manifests` (by `name:reference`) and `blobs`; `before` may answer any request first.

    Args:
        host: an address of the loopback network.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.before: Handler | None = None
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._runner: web.AppRunner | None = None

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen on a free port, or on the one that it had."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    def paths(self, method: str = "GET") -> list[str]:
        """What was asked for, in order."""
        return [path for how, path, _ in self.seen if how == method]

    def add(
        self, repository: str, tag: str, *layers: bytes, architecture: str = "amd64", **changes: Any
    ) -> dict[str, Any]:
        """Put an image there; `changes` are made to its manifest. Returns the manifest."""
        packed = [gzip.compress(data, mtime=0) for data in layers]
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
            }
        ).encode()
        for blob in (config, *packed):
            self.blobs[digest(blob)] = blob
        manifest = {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST,
            "config": {"mediaType": documents.OCI_CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [
                {"mediaType": documents.OCI_LAYER + "+gzip", "digest": digest(blob), "size": len(blob)}
                for blob in packed
            ],
            **changes,
        }
        self.put(repository, tag, manifest)
        return manifest

    def put(self, repository: str, tag: str, document: Any, media_type: str = documents.OCI_MANIFEST) -> bytes:
        """Put a manifest or an index there under a tag and its digest; returns its bytes."""
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.manifests[f"{repository}:{tag}"] = self.manifests[f"{repository}:{digest(raw)}"] = (media_type, raw)
        return raw

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path, {k.lower(): v for k, v in request.headers.items()}))
        if self.before is not None:
            answer = await self.before(request)
            if answer is not None:
                return answer
        path = request.path
        if path == "/v2/":
            return web.json_response({})
        repository, _, reference = path.removeprefix("/v2/").rpartition("/manifests/")
        if repository:
            found = self.manifests.get(f"{repository}:{reference}")
            if found is None:
                return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return web.Response(body=found[1], headers={"Content-Type": found[0]})
        blob = self.blobs.get(path.rpartition("/blobs/")[2])
        if blob is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        wanted = request.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        if wanted:
            start = int(wanted)
            headers = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"}
            return web.Response(status=206, body=blob[start:], headers=headers)
        return web.Response(body=blob)


def error(status: int, code: str, message: str, **headers: str) -> web.Response:
    """An error as the specification has it."""
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)
