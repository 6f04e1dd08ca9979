"""Pull from a registry that behaves, and from one that breaks off, waits, asks who we are, or lies."""

import base64
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from wherry.distribution import link
from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.settings import Settings
from wherry.errors import (
    DigestMismatch,
    Forbidden,
    HostileInput,
    InvalidArgument,
    NotFound,
    NotSupported,
    StoreCorrupt,
    Unauthorized,
    Unavailable,
    WherryError,
)
from wherry.oci import image as documents
from wherry.oci.reference import parse_normalized

from .conftest import Store
from .fake_registry import Registry, digest, error, layer

pytestmark = pytest.mark.root

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


def test_pull_and_pull_again(pulls: Pulls) -> None:
    """An image comes with its layers and names; the second pull fetches its manifest only, and says so."""
    there = pulls.registry()
    there.add("a/b", "1", layer("one"), layer("two"))
    name = f"{there.name}/a/b:1"
    (id_,) = pulls.pull(name)
    image = pulls.store.images.resolve(name)
    assert image.id == id_
    assert len(image.chain_ids) == 2
    assert [message["status"] for message in pulls.messages][-1] == f"Status: Downloaded newer image for {name}"
    assert image.repo_digests == [f"{there.name}/a/b@{image.manifest}"]
    for file, chain in zip(("one", "two"), image.chain_ids, strict=True):
        assert os.listdir(pulls.store.overlay.path(chain)) == [file]
    there.seen.clear()
    assert pulls.pull(name) == [id_]
    assert there.paths() == ["/v2/", "/v2/a/b/manifests/1"]
    assert pulls.messages[-1] == {"status": f"Status: Image is up to date for {name}"}
    assert pulls.pull(f"{there.name}/a/b@{image.manifest}") == [id_]
    pulls.store.check()


def test_only_missing_blobs_travel(pulls: Pulls) -> None:
    """A layer that another image brought is not fetched again."""
    there = pulls.registry()
    base = layer("base")
    there.add("a", "1", base)
    manifest = there.add("a", "2", base, layer("top"))
    pulls.pull(f"{there.name}/a:1")
    there.seen.clear()
    pulls.pull(f"{there.name}/a:2")
    wanted = {f"/v2/a/blobs/{manifest['config']['digest']}", f"/v2/a/blobs/{manifest['layers'][1]['digest']}"}
    assert {path for path in there.paths() if "/blobs/" in path} == wanted
    assert {m["id"]: m["status"] for m in pulls.messages if "progressDetail" in m}[
        manifest["layers"][0]["digest"][7:19]
    ] == "Already exists"
    pulls.store.check()


def test_all_tags(pulls: Pulls) -> None:
    """A name without a tag brings all tags, page by page."""
    there = pulls.registry()
    for tag in ("1", "2", "3"):
        there.add("a", tag, layer(tag))

    async def pages(request: web.Request) -> web.StreamResponse | None:
        if request.path != "/v2/a/tags/list":
            return None
        if "last" in request.query:
            return web.json_response({"name": "a", "tags": ["3"]})
        return web.json_response(
            {"name": "a", "tags": ["1", "2"]}, headers={"Link": '</v2/a/tags/list?last=2>; rel="next"'}
        )

    there.before = pages
    assert len(pulls.pull(f"{there.name}/a")) == 3
    assert pulls.store.names() == [f"{there.name}/a:{tag}" for tag in "123"]


def test_an_index_gives_the_platform_that_is_asked_for(pulls: Pulls) -> None:
    """The machine's platform, another by name, and an error where there is none."""
    there = pulls.registry()
    entries = []
    for number, architecture in enumerate(("arm64", "amd64")):
        manifest = there.add("a", architecture, layer(architecture), architecture=architecture)
        raw = json.dumps(manifest).encode()
        platform = {"os": "linux", "architecture": architecture}
        entries.append(
            {"mediaType": documents.OCI_MANIFEST, "digest": digest(raw), "size": len(raw), "platform": platform}
        )
        assert number < 2
    index = there.put("a", "1", {"schemaVersion": 2, "manifests": entries}, documents.OCI_INDEX)
    (id_,) = pulls.pull(f"{there.name}/a:1")
    (chain,) = pulls.store.images.resolve(id_).chain_ids
    assert os.listdir(pulls.store.overlay.path(chain)) == ["amd64"]
    assert pulls.store.images.resolve(id_).repo_digests == [f"{there.name}/a@{digest(index)}"]
    (other,) = pulls.pull(f"{there.name}/a:1", platform="linux/arm64")
    assert other != id_
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        pulls.pull(f"{there.name}/a:1", platform="linux/s390x")
    # what is there for one platform only comes, and the user is told, as with Docker
    words = (
        rf"image with reference {there.name}/a:amd64 was found but does not match the specified platform: wanted "
        "linux/s390x, actual: linux/amd64"
    )
    with pytest.raises(NotFound, match=words):
        pulls.pull(f"{there.name}/a:amd64", platform="linux/s390x")
    assert f"{there.name}/a:amd64" in pulls.store.names()


def test_a_transfer_that_breaks_off_goes_on_from_its_byte(pulls: Pulls) -> None:
    """Cut twice in the middle, a blob is asked for from where it broke off, also by a later pull."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("one", os.urandom(3 << 20)))
    blob = manifest["layers"][0]["digest"]
    data, cuts = there.blobs[blob], [1 << 20, 2 << 20]

    async def cut(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith(blob) or not cuts:
            return None
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        answer = web.StreamResponse(status=206 if start else 200, headers={"Content-Length": str(len(data) - start)})
        answer.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        await answer.prepare(request)
        await answer.write(data[start : cuts.pop(0)])
        assert request.transport is not None
        request.transport.close()
        return answer

    there.before = cut
    pulls.pull(f"{there.name}/a:1")
    asked = [head.get("range") for _, path, head in there.seen if path.endswith(blob)]
    assert asked[0] is None
    assert len(asked) == 3
    assert all(int(str(text)[6:-1]) > 500_000 for text in asked[1:])
    assert any("Retrying in" in message.get("status", "") for message in pulls.messages)
    pulls.store.check()


def test_a_pull_goes_on_after_a_restart(pulls: Pulls) -> None:
    """What a failed pull has of a blob is there for the next one, of another engine process too."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("small"), layer("one", os.urandom(3 << 20)))
    blob = manifest["layers"][1]["digest"]
    data = there.blobs[blob]

    async def cut(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith(blob):
            return None
        if "Range" in request.headers:
            return web.Response(status=500)
        answer = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await answer.prepare(request)
        await answer.write(data[: 2 << 20])
        assert request.transport is not None
        request.transport.close()
        return answer

    there.before = cut
    with pytest.raises(Unavailable):
        pulls.pull(f"{there.name}/a:1")
    pulls.store.close()
    pulls.store.open()
    pulls.store.run(pulls.store.images.recover())
    pulls.store.run(pulls.store.images.collect())
    there.before = None
    there.seen.clear()
    pulls.pull(f"{there.name}/a:1")
    fetched = {path.rpartition("/")[2]: head.get("range", "") for _, path, head in there.seen if "/blobs/" in path}
    assert manifest["layers"][0]["digest"] not in fetched
    assert int(fetched[blob][6:-1]) > 1_000_000


def test_bytes_that_somebody_else_left_are_not_trusted(pulls: Pulls) -> None:
    """A hostile registry leaves the wrong half of a blob; the honest one is asked for the whole, and it is right."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("one", os.urandom(2 << 20)))
    blob = manifest["layers"][0]["digest"]
    with pulls.store.blobs.ingest(f"blob {blob}") as ingest:
        ingest.write(b"poison" * 1000)
    pulls.pull(f"{there.name}/a:1")
    pulls.store.check()


def test_rate_limits_are_respected(pulls: Pulls) -> None:
    """429 with Retry-After waits and goes on; one that lasts for hours is told at once."""
    there = pulls.registry()
    there.add("a", "1", layer("one"))
    limits = [error(429, "TOOMANYREQUESTS", "slow down", **{"Retry-After": "0"})]

    async def limit(request: web.Request) -> web.StreamResponse | None:
        return limits.pop() if "/manifests/" in request.path and limits else None

    there.before = limit
    pulls.pull(f"{there.name}/a:1")
    limits.append(error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit", **{"Retry-After": "9999"}))
    with pytest.raises(Unavailable, match="toomanyrequests: You have reached your pull rate limit"):
        pulls.pull(f"{there.name}/a:1")


def test_mirrors_and_fallback(pulls: Pulls) -> None:
    """A mirror is asked first and never gets the credential; where it fails the registry itself is asked."""
    there, mirror = pulls.registry(), pulls.registry("127.0.0.2")
    there.add("a", "1", layer("one"))
    mirror.manifests, mirror.blobs = dict(there.manifests), dict(there.blobs)
    hosts = {there.name: {"mirrors": [f"http://{mirror.name}"]}}
    pulls.pull(f"{there.name}/a:1", KEY, hosts=hosts)
    assert there.seen == []
    assert headers(mirror.seen) == []
    mirror.manifests.clear()
    there.add("a", "2", layer("two"))
    pulls.pull(f"{there.name}/a:2", KEY, hosts=hosts)
    assert "/v2/a/manifests/2" in there.paths()
    pulls.store.run(mirror.stop())
    there.add("a", "3", layer("three"))
    pulls.pull(f"{there.name}/a:3", mirrors=[f"{there.name}=http://{mirror.name}"])


def test_docker_s_words(pulls: Pulls) -> None:
    """What the registry refuses is said as Docker says it."""
    there = pulls.registry()
    name = f"{there.name}/a"
    assert pulls.refused(f"{name}:1", NotFound) == (
        f"manifest for {name}:1 not found: manifest unknown: manifest unknown"
    )

    async def deny(request: web.Request) -> web.StreamResponse | None:
        denied = error(403, "DENIED", "requested access to the resource is denied")
        return denied if "/manifests/" in request.path else None

    there.before = deny
    assert pulls.refused(f"{name}:1", NotFound) == (
        f"pull access denied for {name}, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )
    pulls.store.run(there.stop())
    words = pulls.refused(f"{name}:1", Unavailable)
    assert words.endswith(f'v2/": dial tcp {there.name}: connect: connection refused')


def test_what_does_not_answer_is_told_in_time(pulls: Pulls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing, and one that is no registry, are told as such."""
    monkeypatch.setattr(link, "PING_SECONDS", 0.2)
    there = pulls.registry()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = pulls.refused(f"127.0.0.1:{silent.getsockname()[1]}/a:1", Unavailable)
    assert "Client.Timeout exceeded while awaiting headers" in words

    async def web_page(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=404, text="not here")

    there.before = web_page
    assert "unexpected status from the registry: 404" in pulls.refused(f"{there.name}/a:1", Unavailable)


# -- who asks


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


def test_token_and_basic_auth(pulls: Pulls) -> None:
    """A token server is asked with the password, the registry with the token; basic auth works too."""
    there = pulls.registry()
    there.add("a", "1", layer("one"))
    there.before = guarded(there, f"http://{there.name}/token")
    assert "incorrect username or password" in pulls.refused(f"{there.name}/a:1", Unauthorized)
    pulls.pull(f"{there.name}/a:1", KEY)
    basic = there.registry = pulls.registry("127.0.0.3")  # type: ignore[attr-defined]
    basic.add("a", "1", layer("two"))

    async def plain(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == KEY.basic:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    basic.before = plain
    pulls.pull(f"{basic.name}/a:1", KEY)
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        pulls.pull(f"{basic.name}/a:1")


def test_attack_34_a_realm_on_another_host_gets_no_credential(pulls: Pulls) -> None:
    """CVE-2020-15157 and its kin: the token server of another host is asked without the password, and the user told."""
    there, thief = pulls.registry(), pulls.registry("127.0.0.2")
    there.add("a", "1", layer("one"))
    there.before = guarded(there, f"http://{thief.name}/token")
    thief.before = guarded(thief, "")
    words = pulls.refused(f"{there.name}/a:1", Unauthorized, credential=KEY)
    assert "token server of another site" in words
    assert thief.paths() == ["/token"]
    assert headers(thief.seen) == []
    token = Credential(identity_token="refresh")
    pulls.refused(f"{there.name}/a:1", Unauthorized, credential=token)
    assert thief.paths("POST") == []
    # unless the settings say that it may
    pulls.pull(f"{there.name}/a:1", KEY, hosts={there.name: {"realms": ["127.0.0.2"]}})


def test_attack_34_a_redirect_drops_the_credential(pulls: Pulls) -> None:
    """A blob that lies on another host is fetched from there without what proves who asks; foreign URLs never are."""
    there, other = pulls.registry(), pulls.registry("127.0.0.2")
    manifest = there.add("a", "1", layer("one"))
    manifest["layers"][0]["urls"] = [f"http://{other.name}/stolen"]
    there.put("a", "1", manifest)
    other.blobs = dict(there.blobs)
    ask = guarded(there, f"http://{there.name}/token")

    async def redirect(request: web.Request) -> web.StreamResponse | None:
        answer: web.StreamResponse | None = await ask(request)
        if answer is None and "/blobs/" in request.path:
            return web.Response(status=307, headers={"Location": f"http://{other.name}{request.path}"})
        return answer

    there.before = redirect
    pulls.pull(f"{there.name}/a:1", KEY)
    assert len(other.seen) == 2
    assert headers(other.seen) == []
    assert "/stolen" not in other.paths()


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "file:///etc/shadow",
        "ftp://127.0.0.1/x",
        "http://0.0.0.0/x",
        "http://user:word@127.0.0.1/x",
        "http://[bad",
        "",
    ],
)
def test_attack_34_redirects_that_are_not_followed(pulls: Pulls, location: str) -> None:
    """No link-local target, no other scheme, no user in a URL, no circle."""
    there = pulls.registry()
    there.add("a", "1", layer("one"))

    async def redirect(request: web.Request) -> web.StreamResponse | None:
        if "/blobs/" not in request.path:
            return None
        return web.Response(status=307, headers={"Location": location})

    there.before = redirect
    pulls_error = (Forbidden, HostileInput, InvalidArgument)
    with pytest.raises(pulls_error):
        pulls.pull(f"{there.name}/a:1")


# -- content that lies


def test_attack_31_content_that_is_not_its_digest(pulls: Pulls) -> None:
    """Another content, one byte less or more, another diff id: refused, and nothing of it stays."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("good"), layer("one"))
    blob = manifest["layers"][1]["digest"]
    data = there.blobs[blob]
    there.blobs[blob] = bytes([data[0]]) + data[1:-1] + bytes([data[-1] ^ 1])
    assert "verification failed" in pulls.refused(f"{there.name}/a:1")
    there.blobs[blob] = data[:-1]
    assert "sends" in pulls.refused(f"{there.name}/a:1")
    there.blobs[blob] = data + b"x"
    assert "sends" in pulls.refused(f"{there.name}/a:1")
    there.blobs[blob] = data
    liar = there.add("a", "2", layer("x"))
    other = there.add("a", "3", layer("y"))
    there.put("a", "4", {**liar, "layers": other["layers"]})
    assert "expected sha256:" in pulls.refused(f"{there.name}/a:4")
    there.blobs[liar["config"]["digest"]] = b"{}" + b" " * (liar["config"]["size"] - 2)
    assert "unexpected digest" in pulls.refused(f"{there.name}/a:2")


def test_attack_31_more_than_promised_without_a_length(pulls: Pulls) -> None:
    """A chunked answer without end is cut off at the size that the manifest says."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("one"))
    blob = manifest["layers"][0]["digest"]

    async def endless(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith(blob):
            return None
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        try:
            for _ in range(10_000):
                await answer.write(bytes(65536))
        except (ConnectionError, OSError):
            return answer
        raise AssertionError("nobody stopped reading")

    there.before = endless
    assert "sends more than" in pulls.refused(f"{there.name}/a:1")


def test_attack_31_a_manifest_that_is_another(pulls: Pulls) -> None:
    """A manifest asked for by digest must have it; one by tag must be what the header says."""
    there = pulls.registry()
    there.add("a", "1", layer("one"))
    there.add("a", "2", layer("two"))
    wrong = "sha256:" + "0" * 64
    there.manifests[f"a:{wrong}"] = there.manifests["a:1"]
    assert "verification failed" in pulls.refused(f"{there.name}/a@{wrong}")
    _, raw = there.manifests["a:2"]

    async def lie(request: web.Request) -> web.StreamResponse | None:
        if "/manifests/" not in request.path:
            return None
        told = {"Content-Type": documents.OCI_MANIFEST, "Docker-Content-Digest": wrong}
        return web.Response(body=raw, headers=told)

    there.before = lie
    assert "verification failed" in pulls.refused(f"{there.name}/a:2")


@pytest.mark.parametrize(
    "bad", ["sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, "", "../../../etc/passwd"]
)
def test_attack_32_a_digest_that_is_none(pulls: Pulls, bad: str) -> None:
    """CVE-2024-3727: what is no digest never becomes a path, in a layer, a config, an index or a header."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("one"))
    layers = [{**manifest["layers"][0], "digest": bad}]
    there.put("a", "layer", {**manifest, "layers": layers})
    there.put("a", "config", {**manifest, "config": {**manifest["config"], "digest": bad}})
    entry = {"mediaType": documents.OCI_MANIFEST, "digest": bad, "size": 10}
    there.put("a", "index", {"schemaVersion": 2, "manifests": [entry]}, documents.OCI_INDEX)
    for tag in ("layer", "config", "index"):
        pulls.refused(f"{there.name}/a:{tag}")
    assert not any("/blobs/" in path for path in there.paths())


def test_attack_33_a_document_that_is_two(pulls: Pulls) -> None:
    """CVE-2021-41190: manifest and index at once, or another type than was announced, is refused."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("one"))
    both = {**manifest, "manifests": []}
    del both["mediaType"]
    for media_type in (documents.OCI_MANIFEST, documents.OCI_INDEX, "application/json"):
        there.put("a", "both", both, media_type)
        pulls.refused(f"{there.name}/a:both")
    there.put("a", "other", manifest, documents.DOCKER_MANIFEST)
    pulls.refused(f"{there.name}/a:other")
    there.put("a", "odd", manifest, "text/html")
    pulls.refused(f"{there.name}/a:odd")
    raw = json.dumps(manifest).encode()
    entry = {"mediaType": documents.DOCKER_MANIFEST, "digest": digest(raw), "size": len(raw)}
    there.put("a", "index", {"schemaVersion": 2, "manifests": [entry]}, documents.OCI_INDEX)
    pulls.refused(f"{there.name}/a:index")


def test_attack_35_documents_without_end(pulls: Pulls) -> None:
    """Nested indexes, huge and deep JSON, a key twice, a manifest without end: an error, and the store as it was."""
    there = pulls.registry()
    there.put("a", "huge", b" " * (documents.MANIFEST_LIMIT + 1))
    there.put("a", "deep", b"[" * 100_000)
    there.put("a", "twice", b'{"schemaVersion":2,"schemaVersion":2,"config":{},"layers":[]}')
    there.put("a", "text", b"no json")
    raw = there.put("a", "bottom", there.add("a", "0", layer("one")))
    media_type = documents.OCI_MANIFEST
    for number in range(8):
        entry = {"mediaType": media_type, "digest": digest(raw), "size": len(raw)}
        raw = there.put("a", f"nested{number}", {"schemaVersion": 2, "manifests": [entry]}, documents.OCI_INDEX)
        media_type = documents.OCI_INDEX
    for tag in ("huge", "deep", "twice", "text", "nested7"):
        pulls.refused(f"{there.name}/a:{tag}")


def test_what_is_no_image_is_refused(pulls: Pulls) -> None:
    """Foreign layers, artifacts, schema 1 and layers of unknown types are named, and nothing is fetched."""
    there = pulls.registry()
    manifest = there.add("a", "1", layer("one"))
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    there.put("a", "foreign", {**manifest, "layers": [{**manifest["layers"][0], "mediaType": foreign}]})
    assert "foreign layer" in pulls.refused(f"{there.name}/a:foreign")
    there.put("a", "odd", {**manifest, "layers": [{**manifest["layers"][0], "mediaType": "x/y"}]})
    assert "unsupported layer" in pulls.refused(f"{there.name}/a:odd")
    there.put("a", "helm", {**manifest, "config": {**manifest["config"], "mediaType": "application/helm"}})
    assert "this is no image" in pulls.refused(f"{there.name}/a:helm")
    there.put("a", "v1", {"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert "schema 1 support has been removed" in pulls.refused(f"{there.name}/a:v1")
    assert not any("/blobs/" in path for path in there.paths())


def test_no_secret_is_in_an_error(pulls: Pulls) -> None:
    """Whatever fails, neither words nor facts nor repr have the password."""
    there = pulls.registry()
    there.before = guarded(there, f"http://{there.name}/token")
    wrong = Credential("user", "h1dden-word")
    with pytest.raises(WherryError) as caught:
        pulls.pull(f"{there.name}/a:1", wrong)
    shown = f"{caught.value!r} {caught.value} {caught.value.facts} {wrong!r}"
    assert "h1dden-word" not in shown
    assert wrong.basic not in shown
