"""Pull from a registry that lies: wrong content, wrong digests, documents without end."""

import json

import pytest
from aiohttp import web

from wherry.oci import image as documents

from .fake_registry import digest, layer
from .pulling import Pulls, pulls

__all__ = ["pulls"]

pytestmark = pytest.mark.root


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
    config = there.blobs[liar["config"]["digest"]]
    there.blobs[liar["config"]["digest"]] = b"{}" + b" " * (liar["config"]["size"] - 2)
    assert "unexpected digest" in pulls.refused(f"{there.name}/a:2")
    there.blobs[liar["config"]["digest"]] = config
    for tag in "123":
        assert pulls.pull(f"{there.name}/a:{tag}")  # unharmed they are taken


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
    there.before = None
    assert pulls.pull(f"{there.name}/a:1")


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
    there.before = None
    assert pulls.pull(f"{there.name}/a:2")
    assert pulls.pull(f"{there.name}/a@{digest(there.manifests['a:1'][1])}")


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
    raw = there.manifests["a:1"][1]
    entry = {"mediaType": documents.OCI_MANIFEST, "digest": digest(raw), "size": len(raw)}
    there.put("a", "good", {"schemaVersion": 2, "manifests": [entry]}, documents.OCI_INDEX)
    assert pulls.pull(f"{there.name}/a:good")


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
    good = {"schemaVersion": 2, "manifests": [{**entry, "mediaType": documents.OCI_MANIFEST}]}
    there.put("a", "good", good, documents.OCI_INDEX)
    there.put("a", "plain", manifest)
    for tag in ("plain", "good"):
        assert pulls.pull(f"{there.name}/a:{tag}")


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
    for tag in ("0", "nested0"):
        assert pulls.pull(f"{there.name}/a:{tag}")


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
    assert pulls.pull(f"{there.name}/a:1")
