"""While strangers' builds, images and requests are as costly as they can be, the engine answers everybody else."""

import asyncio
import hashlib
import http.client
import http.server
import io
import json
import re
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.build.conftest import CLASSIC, tar_of
from tests.e2e.harness import BIN, EngineProcess
from wherry.linux import loopwatch

pytestmark = pytest.mark.root

MOST = 0.1
"""Seconds that the loop may work in one piece."""
STARS = "*a" * 24 + "*b"
_LONG = b"FROM scratch\nENV a=" + b"x" * 60_000 + b"\n" + b"ENV a=$a$a\n" * 6


class Loop:
    """What an engine says of its event loop."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine

    def pauses(self) -> dict[str, int]:
        """The longest pause, the busiest and how many were long, in nanoseconds."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.engine.host.removeprefix("unix://"))
        connection.request("GET", "/info")
        found: dict[str, int] = json.loads(connection.getresponse().read())["EventLoop"]
        connection.close()
        return found


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """Give an engine of its own, with busybox."""
    engine = EngineProcess()
    try:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        yield Loop(engine)
    finally:
        engine.destroy()
    engine.assert_clean()


def _classic(dockerfile: bytes, files: dict[str, bytes]) -> Callable[[EngineProcess], None]:
    return _send(tar_of({"Dockerfile": dockerfile, **files}))


def _send(data: bytes) -> Callable[[EngineProcess], None]:
    def run(engine: EngineProcess) -> None:
        engine.run("docker", "build", "-", stdin=data, code=None, env=CLASSIC, seconds=100)

    return run


def _wherry(dockerfile: bytes, *flags: str) -> Callable[[EngineProcess], None]:
    def run(engine: EngineProcess) -> None:
        engine.run(
            str(BIN / "wherry"), "build", "--progress=plain", *flags, "-", stdin=dockerfile, code=None, seconds=100
        )

    return run


def _load(data: bytes) -> Callable[[EngineProcess], None]:
    def run(engine: EngineProcess) -> None:
        engine.run("docker", "load", stdin=data, code=None, seconds=100)

    return run


def _post(path: str, body: bytes) -> Callable[[EngineProcess], None]:
    def run(engine: EngineProcess) -> None:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(100)
        connection.sock.connect(engine.host.removeprefix("unix://"))
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        connection.close()

    return run


class _Registry(http.server.BaseHTTPRequestHandler):
    """A registry with one document."""

    document = b""

    def do_GET(self) -> None:
        """Answer."""
        body = b"{}" if self.path == "/v2/" else self.document
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pull(document: bytes) -> Callable[[EngineProcess], None]:
    def run(engine: EngineProcess) -> None:
        handler = type("Handler", (_Registry,), {"document": document})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                engine.docker("pull", f"127.0.0.1:{server.server_port}/hostile", code=1)
            finally:
                server.shutdown()
                thread.join()

    return run


def _image(config: dict[str, Any], junk: bytes = b"") -> bytes:
    """What `docker save` writes, with a layer of nothing; `junk` is put into the configuration as it is."""
    layer = bytes(1024)
    whole = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        **config,
    }
    raw = json.dumps(whole).encode()
    if junk:
        raw = raw[:-1] + b',"junk":' + junk + b"}"
    manifest = [{"Config": "config.json", "RepoTags": ["hostile:latest"], "Layers": ["layer.tar"]}]
    return tar_of({"manifest.json": json.dumps(manifest).encode(), "config.json": raw, "layer.tar": layer})


def _many(count: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo(f"d{number % 50}/f{number}"))
        info = tarfile.TarInfo("Dockerfile")
        text = b"FROM scratch\nCOPY . /x/\nCOPY d* /y/\n"
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return out.getvalue()


def _stats(count: int) -> bytes:
    return json.dumps([[f"f{n}", "f", 420, 0, 0, 'x"],["', ""] for n in range(count)]).encode().replace(b", ", b",")


_LINES = 4000
ATTACKS: dict[str, Callable[[EngineProcess], None]] = {
    "wildcards": _classic(f"FROM scratch\nCOPY {STARS} /x/\n".encode(), {"a" * 90: b""}),
    "excluded": _wherry(f"FROM busybox\nCOPY --exclude={STARS} --from=busybox / /x/\n".encode()),
    "instructions": _wherry(b"FROM scratch\n" + b"LABEL a=b\n" * _LINES + b"COPY nothing /\n"),
    "sources": _classic(
        b"FROM scratch\n" + b"".join(b"COPY %s. /x%d/\n" % (b"./" * n, n) for n in range(12)) + b"COPY nothing /\n",
        {f"f{n}": b"x" for n in range(500)},
    ),
    "doubling": _wherry(b"FROM scratch\nENV a=" + b"x" * 1000 + b"\n" + b"ENV a=$a$a\n" * 30),
    "replacing": _wherry(_LONG + b"ENV b=${a//" + b"?" * 4000 + b"y/z}\n"),
    "suffix": _wherry(_LONG + b"ENV b=${a%%*y" + b"x" * 4000 + b"}\n"),
    "a long word": _wherry(b"FROM scratch\nLABEL a=" + b"\\x" * 30_000 + b"\n"),
    "checked": _wherry(b"FROM scratch\n" + b"ENV secret=$b token=$c\n" * _LINES, "--check"),
    "inflated": _classic(b"FROM scratch\nCOPY . /\n", {"zeros": bytes(7 << 20)}),
    "many files": _send(_many(8_000)),
    "objects": _load(_image({}, b"[" + b'{"a":1},' * 90_000 + b"1]")),
    "lists": _load(_image({}, b"[" + b"[]," * 99_000 + b"1]")),
    "numbers": _load(_image({}, b"[" + b"1," * 3_000_000 + b"1]")),
    "labels": _load(_image({"config": {"Labels": {f"l{n}": "" for n in range(90_000)}}})),
    "history": _load(_image({"history": [{"created_by": "x", "empty_layer": True}] * 60_000})),
    "request lists": _post("/containers/create", b'{"Image":"busybox","Junk":[' + b"[]," * 1_200_000 + b"1]}"),
    "request": _post(
        "/containers/create", b'{"Image":"busybox","Env":[' + b'"a=b",' * 600_000 + b'"a=b"],"Labels":{"a":null}}'
    ),
    "pulled": _pull(json.dumps({"schemaVersion": 2, "config": {}, "layers": [{"a": [1] * 9}] * 12_000}).encode()),
    "pulled keys": _pull(b'{"schemaVersion":2,"manifests":[' + b'{"a":{"b":1}},' * 60_000 + b"{}]}"),
    "pulled depth": _pull(b'{"a":' + b"[" * 3_900_000),
    "directory": _post("/wherry/v1/build/context?key=x", _stats(150_000)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_loop_is_never_busy_for_long(name: str, loop: Loop) -> None:
    """No piece of work on the loop takes a tenth of a second, whatever somebody sends."""
    ATTACKS[name](loop.engine)
    found = loop.pauses()
    assert found["LongestBusy"] / 1e9 < MOST, found


def test_the_pause_is_shown(loop: Loop) -> None:
    """`system info` tells it."""
    assert " Longest Pause: " in loop.engine.wherry("info").out


def test_a_pause_is_noticed() -> None:
    """The control: a loop that works on, and one that a thread keeps from its turn, say so."""

    async def work() -> None:
        await asyncio.sleep(0.01)
        _work(0.15)
        await asyncio.sleep(0.01)
        assert loopwatch.pauses().busiest > MOST and loopwatch.pauses().long == 1
        loopwatch.pauses().clear()
        await loopwatch.aside(_hold)
        await asyncio.sleep(0.05)
        assert loopwatch.pauses().busiest > MOST

    loopwatch.run(work())


def _work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        continue


def _hold() -> None:
    """One long call into C, during which no other thread works."""
    took, count = 0.0, 1 << 12
    while took < 0.25:
        began, count = time.thread_time(), count * 2
        re.search("a*b", "a" * count)
        took = time.thread_time() - began
