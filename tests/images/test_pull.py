"""Pull from a registry that behaves, and from one that breaks off, waits, or does not answer."""

import json
import os
import socket

import pytest
from aiohttp import web

from wherry.distribution import link
from wherry.errors import (
    NotFound,
    Unavailable,
)
from wherry.images.layers import Batch
from wherry.oci import image as documents

from .fake_registry import digest, error, layer
from .pulling import KEY, Pulls, guarded, headers, pulls

__all__ = ["pulls"]

pytestmark = pytest.mark.root


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


def test_a_layer_is_complete_when_it_is_durable(pulls: Pulls, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk works on what was unpacked, layers are shown as being extracted."""
    there = pulls.registry()
    there.add("a", "1", layer("one"), layer("two"))
    commit = Batch.commit
    before: list[str] = []

    async def watched(batch: Batch) -> None:
        before.extend(message["status"] for message in pulls.messages)
        await commit(batch)

    monkeypatch.setattr(Batch, "commit", watched)
    pulls.pull(f"{there.name}/a:1")
    assert before.count("Extracting") >= 2
    assert "Pull complete" not in before
    assert [message["status"] for message in pulls.messages].count("Pull complete") == 2


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


def _tags(*tags: str) -> web.Response:
    return web.json_response({"name": "a", "tags": list(tags)})


def test_all_tags_are_pulled_with_one_token(pulls: Pulls) -> None:
    """The registry is asked once what it wants to be proven, and once for a token, however many tags there are."""
    there = pulls.registry()
    for tag in ("1", "2", "3"):
        there.add("a", tag, layer(tag))
    ask = guarded(there, f"http://{there.name}/token")

    async def answer(request: web.Request) -> web.StreamResponse | None:
        refused: web.StreamResponse | None = await ask(request)
        return refused or (_tags("1", "2", "3") if request.path == "/v2/a/tags/list" else None)

    there.before = answer
    assert len(pulls.pull(f"{there.name}/a", KEY)) == 3
    assert [there.paths().count(path) for path in ("/v2/", "/token")] == [1, 1]
    pulls.store.check()


def test_each_of_all_tags_is_asked_of_the_mirror_first(pulls: Pulls) -> None:
    """A mirror that lacks a tag is asked for the next one again."""
    there, mirror = pulls.registry(), pulls.registry("127.0.0.2")
    for tag in ("1", "2"):
        there.add("a", tag, layer(tag))
    mirror.manifests, mirror.blobs = dict(there.manifests), dict(there.blobs)
    del mirror.manifests["a:1"]

    async def tags(request: web.Request) -> web.StreamResponse | None:
        return _tags("1", "2") if request.path == "/v2/a/tags/list" else None

    there.before = tags
    assert len(pulls.pull(f"{there.name}/a", hosts={there.name: {"mirrors": [f"http://{mirror.name}"]}})) == 2
    assert "/v2/a/manifests/1" in there.paths()
    assert "/v2/a/manifests/2" not in there.paths()


def test_all_tags_are_those_of_the_mirror(pulls: Pulls) -> None:
    """A mirror tells which tags there are, as with dockerd: the registry itself may be out of reach."""
    mirror = pulls.registry("127.0.0.2")
    for tag in ("1", "2"):
        mirror.add("a", tag, layer(tag))

    async def tags(request: web.Request) -> web.StreamResponse | None:
        return _tags("1", "2") if request.path == "/v2/a/tags/list" else None

    mirror.before = tags
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
    assert len(pulls.pull(f"{gone}/a", hosts={gone: {"mirrors": [f"http://{mirror.name}"]}})) == 2
    assert pulls.store.names() == [f"{gone}/a:1", f"{gone}/a:2"]


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
    there = pulls.registry()
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as patched:
        patched.setattr(link, "PING_SECONDS", 0.2)
        words = pulls.refused(f"127.0.0.1:{silent.getsockname()[1]}/a:1", Unavailable)
    assert "Client.Timeout exceeded while awaiting headers" in words

    async def web_page(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=404, text="not here")

    there.before = web_page
    assert "unexpected status from the registry: 404" in pulls.refused(f"{there.name}/a:1", Unavailable)
