"""Pull and push against Debian's docker-registry: plain, with a password, behind TLS, killed half way."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.login import check
from wherry.distribution.search import search
from wherry.distribution.settings import Settings
from wherry.errors import NotFound, Unauthorized, Unavailable
from wherry.oci.reference import parse_normalized

from .conftest import Store
from .fake_registry import Registry as Fake
from .fake_registry import layer

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs Debian's docker-registry"),
]

KEY = Credential("user", "s3cret", server="")
HTPASSWD = "user:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK"
DELAYS = (0.05, 0.1, 0.2, 0.4)


class Peer:
    """A docker-registry on a port of its own."""

    def __init__(self, directory: Path, **http: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name = f"127.0.0.1:{self.port}"
        self._directory = directory
        self._auth = http.pop("auth", None)
        self._http = http
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self, directory: Path) -> list[str]:
        """What it is executed as."""
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}},
            "http": {"addr": self.name, "secret": "of the test", **self._http},
        }
        if self._auth:
            config["auth"] = self._auth
        path = directory / "registry.yml"
        path.write_text(json.dumps(config))
        return ["docker-registry", "serve", str(path)]

    def start(self) -> None:
        """Execute it, and wait until it listens."""
        self._process = subprocess.Popen(
            self.arguments(self._directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "docker-registry does not listen"
                assert self._process.poll() is None, "docker-registry ended"

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts registries that end with the test."""
    made: list[Peer] = []

    def start(**http: Any) -> Peer:
        found = Peer(tmp_path, **http)
        made.append(found)
        found.start()
        return found

    yield start
    for found in made:
        found.kill()


def settings(**changes: Any) -> Settings:
    """What an engine has."""
    return Settings(**{"certs": (), "delays": DELAYS, **changes})


def pull(store: Store, name: str, credential: Credential = NOBODY, **changes: Any) -> str:
    """Pull one image; returns its id."""
    (found,) = store.run(
        store.images.pull(settings(**changes), parse_normalized(name), store.messages.append, credential)
    )
    return found.id


def push(store: Store, name: str, credential: Credential = NOBODY, **changes: Any) -> str:
    """Push one tag; returns the manifest's digest."""
    ((_, digest),) = store.run(
        store.images.push(settings(**changes), parse_normalized(name), store.messages.append, credential)
    )
    return digest


def bring(store: Store, *layers: bytes) -> str:
    """An image that came from a registry of the test's own; returns its id."""
    fake = Fake()
    store.run(fake.start())
    fake.add("src", "1", *layers)
    id_ = pull(store, f"{fake.name}/src:1")
    store.run(fake.stop())
    store.messages.clear()
    return id_


def statuses(store: Store) -> list[str]:
    """The layers' last words."""
    return list({m["id"]: m["status"] for m in store.messages if "progressDetail" in m and "id" in m}.values())


def test_push_then_pull(store: Store, peer: Callable[..., Peer]) -> None:
    """What was pushed comes back the same; a second push sends nothing, another repository mounts its layers."""
    there = peer()
    id_ = bring(store, layer("one", os.urandom(100_000)), layer("two"))
    name = f"{there.name}/team/app:1"
    store.run(store.images.tag(id_, f"{there.name}/team/app", "1"))
    digest = push(store, name)
    assert digest == store.images.resolve(id_).manifest
    assert statuses(store) == ["Pushed", "Pushed"]
    store.messages.clear()
    assert push(store, name) == digest
    assert statuses(store) == ["Layer already exists"] * 2
    store.run(store.images.tag(id_, f"{there.name}/other", "1"))
    store.messages.clear()
    push(store, f"{there.name}/other:1")
    assert statuses(store) == ["Mounted from team/app"] * 2
    store.remove(id_, force=True)
    store.check()
    assert pull(store, name) == id_
    store.check()
    with pytest.raises(NotFound, match=f"manifest for {there.name}/team/app:2 not found"):
        pull(store, f"{there.name}/team/app:2")


def test_a_layer_without_compression_is_compressed_the_same_each_time(store: Store, peer: Callable[..., Peer]) -> None:
    """An imported image is compressed for its push, finds its layer there the next time, and leaves no blob behind."""
    there = peer()

    async def archive() -> Any:
        yield layer("file", b"text" * 10_000)

    store.run(store.images.import_(archive(), f"{there.name}/imported", "1"))
    first = push(store, f"{there.name}/imported:1")
    store.messages.clear()
    assert push(store, f"{there.name}/imported:1") == first
    assert statuses(store) == ["Layer already exists"]
    store.check()
    id_ = store.images.resolve(f"{there.name}/imported:1").id
    store.remove(id_, force=True)
    assert pull(store, f"{there.name}/imported:1") == id_


def test_the_registry_is_killed_half_way(store: Store, peer: Callable[..., Peer]) -> None:
    """A pull fails when the registry dies, keeps what it has, and the next one brings the rest; a push too."""
    there = peer()
    parts = [layer(f"file{number}", os.urandom(4 << 20)) for number in range(4)]
    id_ = bring(store, *parts)
    store.run(store.images.tag(id_, f"{there.name}/big", "1"))
    killed = False

    def kill(message: dict[str, Any]) -> None:
        nonlocal killed
        if message.get("status") in ("Pushing", "Downloading", "Download complete") and not killed:
            killed = True
            there.kill()

    work = store.images.push(settings(), parse_normalized(f"{there.name}/big:1"), kill)
    with pytest.raises(Unavailable):
        store.run(work)
    there.start()
    push(store, f"{there.name}/big:1")
    store.remove(id_, force=True)
    killed = False
    with pytest.raises(Unavailable):
        store.run(store.images.pull(settings(), parse_normalized(f"{there.name}/big:1"), kill))
    there.start()
    assert pull(store, f"{there.name}/big:1") == id_
    store.check()


def test_a_password(store: Store, peer: Callable[..., Peer], tmp_path: Path) -> None:
    """htpasswd: the right password works, a wrong one and none do not; login says which."""
    file = tmp_path / "htpasswd"
    file.write_text(HTPASSWD + "\n")
    there = peer(auth={"htpasswd": {"realm": "test", "path": str(file)}})
    id_ = bring(store, layer("one"))
    store.run(store.images.tag(id_, f"{there.name}/a", "1"))
    with pytest.raises(Unauthorized):
        push(store, f"{there.name}/a:1")
    with pytest.raises(Unauthorized):
        push(store, f"{there.name}/a:1", Credential("user", "wrong"))
    push(store, f"{there.name}/a:1", KEY)
    store.remove(id_, force=True)
    with pytest.raises(Unauthorized):
        pull(store, f"{there.name}/a:1")
    assert pull(store, f"{there.name}/a:1", KEY) == id_
    right, wrong = Credential("user", "s3cret", server=there.name), Credential("user", "no", server=there.name)
    assert store.run(check(settings(), right)) == ""
    with pytest.raises(Unauthorized):
        store.run(check(settings(), wrong))


def test_tls_with_a_private_authority(store: Store, peer: Callable[..., Peer], tmp_path: Path) -> None:
    """A certificate of nobody's is refused where the registry must be secure, and taken with certs.d."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-keyout", str(key), "-out", str(cert), "-subj", "/CN=test"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:registry.test"),
        ],
        check=True,
        capture_output=True,
    )
    there = peer(tls={"certificate": str(cert), "key": str(key)})
    id_ = bring(store, layer("one"))
    store.run(store.images.tag(id_, f"{there.name}/a", "1"))
    push(store, f"{there.name}/a:1")  # this machine's registries are insecure ones, as Docker has it
    store.remove(id_, force=True)
    strict = settings()
    strict.is_insecure = lambda host: False  # type: ignore[method-assign]
    name = parse_normalized(f"{there.name}/a:1")
    with pytest.raises(Unavailable, match="x509: certificate signed by unknown authority"):
        store.run(store.images.pull(strict, name, store.messages.append))
    directory = tmp_path / "certs.d" / there.name
    directory.mkdir(parents=True)
    shutil.copy(cert, directory / "ca.crt")
    trusting = settings(certs=(str(tmp_path / "certs.d"),))
    trusting.is_insecure = lambda host: False  # type: ignore[method-assign]
    (found,) = store.run(store.images.pull(trusting, name, store.messages.append))
    assert found.id == id_


def test_a_mirror_before_a_registry_that_is_away(store: Store, peer: Callable[..., Peer]) -> None:
    """A mirror has what is asked for, and the registry behind it need not answer."""
    there = peer()
    id_ = bring(store, layer("one"))
    store.run(store.images.tag(id_, f"{there.name}/a", "1"))
    push(store, f"{there.name}/a:1")
    store.remove(id_, force=True)
    assert pull(store, "registry.invalid/a:1", hosts={"registry.invalid": {"mirrors": [f"http://{there.name}"]}}) == id_
    assert store.names() == ["registry.invalid/a:1"]


def test_search_needs_an_index(store: Store, peer: Callable[..., Peer]) -> None:
    """A registry without an index says so at once."""
    there = peer()
    with pytest.raises(NotFound):
        store.run(search(settings(), f"{there.name}/x", 0, {}, NOBODY))
