"""A registry with accounts on a loopback port, in a thread of the test; and a client that speaks plain HTTP to it."""

import asyncio
import base64
import hashlib
import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from wherry.oci import image as images
from wherry.registry import config
from wherry.registry.accounts.passwords import hash_password
from wherry.registry.accounts.service import Accounts
from wherry.registry.server import create_app, create_service
from wherry.registry.web.join import extend

PASSWORD = "correct horse battery"
_HASH = hash_password(PASSWORD)


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Registry:
    """A server, its accounts, and requests to it."""

    def __init__(self, root: Path, open_to_all: bool = False, **settings: Any) -> None:
        if not open_to_all:
            settings = {"enabled": True, **settings}
        made = config.read(None, root=str(root), accounts=settings, log={"access": False})
        self.root = root
        self.settings = made
        self.accounts = Accounts(made) if not open_to_all else None
        authorizer = self.accounts.authorizer if self.accounts is not None else None
        self.service = create_service(made, authorizer)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._ready.wait(0.05):
            assert self._thread.is_alive() and time.monotonic() < deadline, "the server did not begin"

    @property
    def known(self) -> Accounts:
        """The accounts."""
        assert self.accounts is not None
        return self.accounts

    @property
    def host(self) -> str:
        """HOST:PORT."""
        return f"localhost:{self.port}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        self._end = asyncio.Event()
        app = create_app(self.service, None, (lambda app: extend(app, self.accounts),))
        runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    def close(self) -> None:
        """End the server."""
        end = self._end
        assert end is not None
        self._loop.call_soon_threadsafe(end.set)
        self._thread.join(20)
        self.service.close()

    def add(self, *names: str, admin: bool = False) -> None:
        """Add users with `PASSWORD`."""
        for name in names:
            self.known.people.add_user(name, _HASH, admin=admin)

    # --- requests

    def ask(
        self,
        method: str,
        path: str,
        *,
        user: str = "",
        password: str = PASSWORD,
        token: str = "",
        body: bytes | str = b"",
        **headers: str,
    ) -> Answer:
        """One request; `user` with Basic, `token` as bearer; `_` in a header's name stands for `-`."""
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        if user:
            made["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        if token:
            made["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, {"Host": self.host, **made})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def token(self, *scopes: str, user: str = "", password: str = PASSWORD) -> str:
        """A bearer token, as a client fetches it."""
        query = "&".join(f"scope={scope}" for scope in scopes)
        answer = self.ask("GET", f"/token?service=wherry-registry&{query}", user=user, password=password)
        assert answer.status == 200, answer.text
        return str(answer.json["token"])

    def push_blob(self, name: str, data: bytes, **who: str) -> str:
        """Push a blob in one request; returns its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        kind = {"Content_Type": "application/octet-stream"}
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", body=data, **who, **kind)
        assert answer.status == 201, answer.text
        return digest

    def put(self, name: str, reference: str, document: dict[str, Any], **who: str) -> Answer:
        """Push a manifest."""
        return self.ask(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            body=json.dumps(document).encode(),
            **who,
            Content_Type=document["mediaType"],
        )

    def image(
        self, name: str, *, architecture: str = "amd64", layers: int = 2, more: dict[str, Any] | None = None, **who: str
    ) -> dict[str, Any]:
        """Push config and layers of a small image; returns its manifest."""
        blobs = [f"{architecture} layer {number} ".encode() * (40 + 900 * number) for number in range(layers)]
        config_document = {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-11-01T10:00:00Z",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(b).hexdigest()}" for b in blobs]},
            "history": [
                {"created_by": f"COPY part-{number} /srv/part-{number} # buildkit"} for number in range(layers)
            ],
            **(more or {}),
        }
        raw = json.dumps(config_document).encode()
        return {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "config": {"mediaType": images.OCI_CONFIG, "digest": self.push_blob(name, raw, **who), "size": len(raw)},
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": self.push_blob(name, blob, **who),
                    "size": len(blob),
                }
                for blob in blobs
            ],
        }

    def push(self, name: str, tag: str = "latest", **options: Any) -> str:
        """Push a small image; returns its digest."""
        who = {key: options[key] for key in ("user", "password", "token") if key in options}
        answer = self.put(name, tag, self.image(name, **options), **who)
        assert answer.status == 201, answer.text
        return answer.headers["docker-content-digest"]

    def audit(self) -> list[dict[str, Any]]:
        """What the audit log has."""
        return [json.loads(line) for line in (self.root / "audit.log").read_text().splitlines()]
