"""Search against a server of Hub's shape, and registries that are reached through a proxy."""

import asyncio
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from wherry.distribution import search as searching
from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.search import search, tags
from wherry.distribution.settings import Settings
from wherry.distribution.transport import READ_SECONDS
from wherry.errors import InvalidArgument, NotFound, Unavailable
from wherry.oci.reference import parse_normalized

from .conftest import Store
from .fake_registry import Registry, layer

pytestmark = pytest.mark.root

RESULTS = [
    {"name": "nginx", "description": "Official build", "star_count": 20000, "is_official": True, "is_automated": False},
    {"name": "a/nginx", "description": "mine\nown", "star_count": 7, "is_official": False, "is_automated": True},
    {"name": "b/nginx", "description": None, "star_count": 0, "is_official": False, "is_automated": False},
    {"name": 7},
    "nonsense",
]


class Hub:
    """A registry with `/v1/search` as Docker Hub has it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = Registry()
        self.registry.before = self._answer
        self.asked: list[web.Request] = []

    async def _answer(self, request: web.Request) -> web.StreamResponse | None:
        if request.path == "/v1/search":
            self.asked.append(request)
            wanted = int(request.query["n"])
            found = RESULTS[:wanted]
            return web.json_response({"num_pages": 1, "num_results": len(found), "page": 1, "results": found})
        if request.path == "/v2/a/tags/list":
            return web.json_response({"name": "a", "tags": ["1", "2"]})
        return None

    def search(
        self, term: str, limit: int = 0, filters: dict[str, list[str]] | None = None, credential: Credential = NOBODY
    ) -> list[str]:
        """The names that are found."""
        settings = Settings(certs=(), delays=())
        found = self.store.run(search(settings, f"{self.registry.name}/{term}", limit, filters or {}, credential))
        return [str(entry["name"]) for entry in found]


@pytest.fixture
def hub(store: Store) -> Iterator[Hub]:
    """A running one."""
    made = Hub(store)
    store.run(made.registry.start())
    yield made
    store.run(made.registry.stop())


def test_limits_and_filters(hub: Hub) -> None:
    """The limit travels, 25 where there is none; filters are ours; what is no entry is left out."""
    assert hub.search("nginx") == ["nginx", "a/nginx", "b/nginx"]
    assert hub.search("nginx", 1) == ["nginx"]
    assert [request.query["n"] for request in hub.asked] == ["25", "1"]
    assert hub.asked[0].query["q"] == "nginx"
    assert hub.search("nginx", filters={"is-official": ["true"]}) == ["nginx"]
    assert hub.search("nginx", filters={"is-official": ["false"]}) == ["a/nginx", "b/nginx"]
    assert hub.search("nginx", filters={"is-automated": ["true"]}) == ["a/nginx"]
    assert hub.search("nginx", filters={"stars": ["7"]}) == ["nginx", "a/nginx"]
    wrongs: list[dict[str, list[str]]] = [{"nope": ["1"]}, {"stars": ["many"]}, {"is-official": ["maybe"]}]
    for wrong in wrongs:
        with pytest.raises(InvalidArgument, match="invalid filter"):
            hub.search("nginx", filters=wrong)
    for limit in (-1, 101):
        with pytest.raises(InvalidArgument, match=rf"limit {limit} is outside the range of \[1, 100\]"):
            hub.search("nginx", limit)
    hub.search("nginx", credential=Credential("user", "s3cret"))
    assert hub.asked[-1].headers["Authorization"].startswith("Basic ")


def test_tags_of_a_repository(hub: Hub) -> None:
    """`--list-tags` asks the registry itself."""
    settings = Settings(certs=(), delays=())
    name = parse_normalized(f"{hub.registry.name}/a")
    assert hub.store.run(tags(settings, name, NOBODY)) == ["1", "2"]
    with pytest.raises(NotFound):
        hub.store.run(tags(settings, parse_normalized(f"{hub.registry.name}/b"), NOBODY))


def test_an_index_that_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is silent is given up within ten seconds, one that is not there at once; both by name."""
    assert searching._SECONDS < 10
    monkeypatch.setattr(searching, "_SECONDS", 0.3)
    settings = Settings(certs=(), delays=())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Unavailable, match=f"search: {host} does not answer within"):
            hub.store.run(search(settings, f"{host}/x", 0, {}, NOBODY))
        assert time.monotonic() - began < READ_SECONDS  # by the search itself, not by what reads for it
    with pytest.raises(Unavailable, match=f"dial tcp {host}: connect: connection refused"):
        hub.store.run(search(settings, f"{host}/x", 0, {}, NOBODY))


# -- proxies


class Proxy:
    """A proxy that takes every name for one server of ours: absolute URLs, and CONNECT."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.lines: list[str] = []
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close, with every connection."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        self.lines.append(first.decode())
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        if first.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method, url, version = first.split(b" ")
            path = b"/" + url.split(b"/", 3)[3]
            back.write(b" ".join((method, path, version)) + b"\r\n" + rest)
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            for one in (back, writer):
                one.close()
            await asyncio.gather(back.wait_closed(), writer.wait_closed(), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the other side is gone: that ends this one too
    finally:
        writer.close()


@asynccontextmanager
async def serve_tls(app: web.Application, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve, and yield the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def test_docker_hub_is_searched_through_a_proxy(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A term without a host goes to Hub's index: here through HTTPS_PROXY, its authority from `certs.d`."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-keyout", str(key), "-out", str(cert), "-subj", "/CN=test"),
            *("-addext", "subjectAltName=DNS:index.docker.io"),
        ],
        check=True,
        capture_output=True,
    )
    directory = tmp_path / "certs.d" / "index.docker.io"
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(cert.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"results": RESULTS} if request.query["q"] == "nginx" else {"results": []})

    async def run() -> tuple[list[Any], list[str]]:
        app = web.Application()
        app.router.add_get("/v1/search", answer)
        async with serve_tls(app, context) as port:
            proxy = Proxy(port)
            await proxy.start()
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            trusting = Settings(certs=(str(tmp_path / "certs.d"),), delays=())
            found = [await search(trusting, term, 0, {}, NOBODY) for term in ("nginx", "docker.io/library/nginx")]
            with pytest.raises(Unavailable, match="x509: certificate signed by unknown authority"):
                await search(Settings(certs=(), delays=()), "nginx", 0, {}, NOBODY)
            await proxy.stop()
            return found, proxy.lines

    found, lines = store.run(run())
    assert [len(entries) for entries in found] == [3, 3]
    assert set(lines) == {"CONNECT index.docker.io:443 HTTP/1.1"}


def test_a_pull_through_a_proxy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY reaches a registry of any name; NO_PROXY keeps one from it."""
    registry = Registry()
    registry.add("a", "1", layer("one"))
    store.run(registry.start())
    proxy = Proxy(registry.port)
    store.run(proxy.start())
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    plain = Settings(hosts={"far.invalid:5000": {"mirrors": ["http://far.invalid:5000"]}}, certs=(), delays=())
    wanted = parse_normalized("far.invalid:5000/a:1")
    (found,) = store.run(store.images.pull(plain, wanted, store.messages.append))
    assert found.id == json.loads(registry.manifests["a:1"][1])["config"]["digest"]
    assert proxy.lines[0] == "GET http://far.invalid:5000/v2/ HTTP/1.1"
    monkeypatch.setenv("NO_PROXY", "far.invalid:5000")
    asked = len(proxy.lines)
    with pytest.raises(Unavailable, match=r"far\.invalid"):
        store.run(store.images.pull(plain, parse_normalized("far.invalid:5000/a:2"), store.messages.append))
    assert len(proxy.lines) == asked
    store.run(proxy.stop())
    store.run(registry.stop())
