"""Clients that mean harm: section F of the attack list, but for accounts. Each test names its line."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.web import BaseRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.races import race
from tests.registry.harness import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    Client,
    Registry,
    descriptor,
    digest_of,
    manifest_of,
)
from wherry.errors import Forbidden
from wherry.registry.access import DELETE, OVERWRITE, PULL, Caller, Open


class Rules(Open):
    """Rights by repository, for a caller named in a header."""

    def __init__(self, rights: dict[str, dict[str, set[str]]]) -> None:
        super().__init__()
        self._rights = rights

    async def identify(self, request: BaseRequest) -> Caller:
        return Caller(request.headers.get("X-Caller", ""))

    async def may(self, caller: Caller, repository: str, action: str) -> bool:
        return action in self._rights.get(caller.name, {}).get(repository, set())

    async def require(self, request: BaseRequest, caller: Caller, repository: str, actions: frozenset[str]) -> None:
        if not actions <= self._rights.get(caller.name, {}).get(repository, set()):
            raise Forbidden("requested access to the resource is denied")


@pytest.mark.parametrize(
    ("n", "status"),
    [("999999999999999999999999", 200), ("-1", 400), ("1e9", 400), ("0x10", 400), ("0", 200), ("", 400)],
)
def test_catalog_page_size_is_bounded(registry: Registry, n: str, status: int) -> None:
    """CVE-2023-2253: a huge page size allocates nothing, a negative one is refused; so it is for tags."""
    registry.push_image("r", "v1", b"x")
    for path in ("/v2/_catalog", "/v2/r/tags/list"):
        answer = registry("GET", f"{path}?n={n}")
        assert answer.status == status
        if status == 400:
            assert answer.code == "PAGINATION_NUMBER_INVALID"


def test_a_blob_is_read_only_through_a_repository_that_has_it(start_registry: Callable[..., Registry]) -> None:
    """CVE-2024-39897: a shared blob is not there in a repository that was not given it, and a mount asks the source."""
    every = {PULL, "push", OVERWRITE, DELETE, "catalog"}
    registry = start_registry(
        authorizer=Rules({"owner": {"private": every}, "thief": {"mine": every, "other": every}}),
    )
    owner = Client(registry.host, registry.port, {"X-Caller": "owner"})
    thief = Client(registry.host, registry.port, {"X-Caller": "thief"})
    digest = owner.push_blob("private", b"secret layer")
    for method in ("GET", "HEAD"):
        assert thief(method, f"/v2/mine/blobs/{digest}").status == 404
    assert thief("GET", f"/v2/private/blobs/{digest}").status == 403
    for query in (f"mount={digest}&from=private", f"mount={digest}"):
        assert thief("POST", f"/v2/mine/blobs/uploads/?{query}").status == 202
        assert thief("GET", f"/v2/mine/blobs/{digest}").status == 404
    # nor does a manifest that refers to it give it away
    thief.push_blob("mine", b"{}")
    answer = thief.push_manifest("mine", "v1", manifest_of(b"{}", b"secret layer"))
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    # whoever has the bytes may have the blob: it is stored once, and goes from one repository without the other
    thief.push_blob("mine", b"secret layer")
    assert thief("DELETE", f"/v2/mine/blobs/{digest}").status == 202
    assert owner("GET", f"/v2/private/blobs/{digest}").body == b"secret layer"


@pytest.mark.parametrize(
    ("rights", "method", "target", "status"),
    [
        ({PULL}, "PUT", "new", 403),
        ({PULL}, "DELETE", "there", 403),
        ({PULL, "push"}, "PUT", "new", 201),
        ({PULL, "push"}, "PUT", "there", 403),
        ({PULL, "push"}, "PUT", "same", 201),
        ({PULL, "push"}, "DELETE", "there", 403),
        ({PULL, "push"}, "DELETE", "digest", 403),
        ({PULL, "push", OVERWRITE}, "PUT", "there", 201),
        ({PULL, "push", OVERWRITE}, "DELETE", "there", 403),
        ({PULL, DELETE}, "DELETE", "there", 202),
        ({PULL, DELETE}, "PUT", "new", 403),
    ],
)
def test_method_scope_and_state_of_the_tag(
    start_registry: Callable[..., Registry], rights: set[str], method: str, target: str, status: int
) -> None:
    """zot GHSA-qg67, CVE-2026-31801: a right to push deletes nothing and moves no tag."""
    every = {PULL, "push", OVERWRITE, DELETE}
    registry = start_registry(authorizer=Rules({"admin": {"r": every}, "user": {"r": rights}}))
    admin = Client(registry.host, registry.port, {"X-Caller": "admin"})
    user = Client(registry.host, registry.port, {"X-Caller": "user"})
    old = admin.push_image("r", "there", b"old")
    new = admin.push_image("r", "else", b"new")
    raw = admin("GET", f"/v2/r/manifests/{old if target == 'same' else new}").body
    reference = {"same": "there", "digest": old}.get(target, target)
    answer = user(method, f"/v2/r/manifests/{reference}", raw if method == "PUT" else None, {"Content-Type": MANIFEST})
    assert answer.status == status
    if status == 403:
        assert answer.code == "DENIED"
        assert digest_of(admin("GET", "/v2/r/manifests/there").body) == old


def test_a_session_belongs_to_its_repository(registry: Registry) -> None:
    """A session cannot be guessed, nor used through another repository, nor after its end."""
    location = registry.start("mine")
    session = location.rpartition("/")[2]
    assert len(set(session.partition(".")[2])) > 8
    assert len(session) >= 7 + 48
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = registry(method, f"/v2/other/blobs/uploads/{session}?digest={digest_of(b'x')}", b"x")
        assert (answer.status, answer.code if answer.body else "") == (404, "BLOB_UPLOAD_UNKNOWN")
    digest = digest_of(b"x")
    assert registry("PUT", f"{location}?digest={digest}", b"x").status == 201
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert registry(method, f"{location}?digest={digest}", b"x").status == 404
    location = registry.start("mine")
    assert registry("DELETE", location).status == 204
    assert registry("PATCH", location, b"x").status == 404


@pytest.mark.parametrize(
    "session",
    ["..", "../x", "%2e%2e", "a", "sha256." + "0" * 48, "sha256." + "0" * 47, "md5." + "0" * 48, "sha256.%00"],
)
def test_sessions_that_are_none(registry: Registry, session: str) -> None:
    """What is not a session's id reaches no file."""
    real = registry.start("r").rpartition("/")[2]
    assert registry("GET", f"/v2/r/blobs/uploads/{real}").status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert registry(method, f"/v2/r/blobs/uploads/{session}?digest={digest_of(b'')}", b"").status in (400, 404)


@pytest.mark.parametrize(
    ("text", "body", "status"),
    [
        ("6-9", b"x" * 4, 416),
        ("0-3", b"x" * 4, 416),
        ("4-7", b"x" * 4, 416),
        ("5-8", b"x" * 5, 400),
        ("5-9", b"x" * 4, 400),
        ("9-5", b"x" * 5, 416),
        ("five-nine", b"x" * 5, 400),
        ("5-99999999999999999999", b"x" * 5, 400),
        ("-9", b"x" * 5, 400),
        ("5-9", b"x" * 5, 202),
    ],
)
def test_content_range_leaves_no_hole(registry: Registry, text: str, body: bytes, status: int) -> None:
    """A chunk that begins elsewhere, or says another length, changes nothing."""
    location = registry.start("r")
    registry("PATCH", location, b"hello")
    answer = registry("PATCH", location, body, {"Content-Range": text})
    assert answer.status == status
    size = 10 if status == 202 else 5
    assert registry("GET", location).headers["Range"] == f"0-{size - 1}"
    if status == 416:
        assert (answer.headers["Location"], answer.headers["Range"]) == (location, "0-4")
    rest = b"x" * 5 if status == 202 else b""
    assert registry("PUT", f"{location}?digest={digest_of(b'hello' + rest)}").status == 201


def test_a_chunk_longer_than_it_says(registry: Registry) -> None:
    """With a chunked body, whose length is not announced, the range still binds."""
    location = registry.start("r")
    body = b"6\r\nabcdef\r\n0\r\n\r\n"
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Range: 0-2\r\n\r\n"
    with socket.create_connection((registry.host, registry.port)) as sock:
        sock.sendall(head.encode() + body)
        assert sock.recv(100).startswith(b"HTTP/1.1 400")
    assert registry("GET", location).headers["Range"] == "0-0"
    assert registry("PUT", f"{location}?digest={digest_of(b'')}").status == 201


def test_a_digest_is_not_swapped(registry: Registry) -> None:
    """Data of another digest is never stored under the one that was asked for, and its session ends."""
    wanted = digest_of(b"good")
    location = registry.start("r")
    answer = registry("PUT", f"{location}?digest={wanted}", b"evil")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert registry("GET", f"/v2/r/blobs/{wanted}").status == 404
    assert registry("GET", location).status == 404
    answer = registry("POST", f"/v2/r/blobs/uploads/?digest={wanted}", b"evil")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    registry.push_blob("r", b"{}")
    answer = registry.push_manifest("r", wanted, manifest_of(b"{}"))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert os.listdir(registry.root / "uploads/r") == []


@pytest.mark.parametrize(
    "digest",
    ["sha256:", "sha256:xyz", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 65, "../../etc", "0" * 64],
)
def test_digests_that_are_none(registry: Registry, digest: str) -> None:
    """CVE-2024-3727: nothing becomes a path that is not a digest."""
    good = digest_of(b"x")
    assert registry("PUT", f"{registry.start('r')}?digest={good}", b"x").status == 201
    assert registry("GET", f"/v2/r/blobs/{quote(good, safe='')}").status == 200
    location = registry.start("r")
    answer = registry("PUT", f"{location}?digest={quote(digest, safe='')}", b"x")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert registry("GET", f"/v2/r/blobs/{quote(digest, safe='')}").status in (400, 404)


@pytest.mark.parametrize(
    "name",
    [
        "Upper",
        "..",
        "a/../b",
        "a//b",
        "_hidden",
        "a+b",
        "-a",
        "a_",
        "a___b",
        "a/",
        "%2e%2e",
        "a%2fb",
        "a\u0130",
        "x" * 256,
        "a/_blobs",
        "a b",
    ],
)
def test_names_that_are_none(registry: Registry, name: str) -> None:
    """Links, case, traversal: what is not a repository's name becomes no path, and no second spelling of one."""
    path = quote(name, safe="/%+")
    for method, rest in (("POST", "blobs/uploads/"), ("GET", "tags/list"), ("PUT", "manifests/v1")):
        answer = registry(method, f"/v2/{path}/{rest}", b"{}" if method == "PUT" else None)
        assert answer.status in (400, 404)
    assert not (registry.root / "repositories").exists()
    assert registry("POST", "/v2/a/good-name.x/blobs/uploads/").status == 202


def test_a_repository_that_is_a_link(registry: Registry, tmp_path: Path) -> None:
    """A repository's directory that was made a symbolic link is not entered."""
    outside = tmp_path / "outside"
    outside.mkdir()
    registry.push_blob("other", b"x")
    os.symlink(outside, registry.root / "repositories/linked")
    answer = registry("PUT", f"{registry.start('linked')}?digest={digest_of(b'x')}", b"x")
    assert answer.status == 500
    assert "X-Request-Id" in answer.json["errors"][0]["message"] and answer.headers["X-Request-Id"]
    assert os.listdir(outside) == []
    assert registry("PUT", f"{registry.start('plain')}?digest={digest_of(b'x')}", b"x").status == 201


def test_two_writers_of_one_session(registry: Registry) -> None:
    """While one request writes to a session another one is refused, and spoils nothing."""

    def attempt() -> str:
        location = registry.start("r")
        with socket.create_connection((registry.host, registry.port)) as sock:
            sock.settimeout(60)
            sock.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello".encode())
            answer = registry("PATCH", location, b"evil!")
            sock.sendall(b"world")
            first = sock.recv(100)
        if answer.status == 202:
            # it came and went before the other one, or while that one was refused
            content = b"evil!helloworld" if first.startswith(b"HTTP/1.1 202") else b"evil!"
        else:
            assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID"), answer
            assert first.startswith(b"HTTP/1.1 202")
            content = b"helloworld"
        assert registry("PUT", f"{location}?digest={digest_of(content)}").status == 201
        return "at once" if answer.status == 409 else "one after the other"

    race(attempt, ("at once",), rounds=3)


def test_a_broken_connection_keeps_what_came(registry: Registry) -> None:
    """An upload that broke off goes on from where it broke."""
    data = os.urandom(700_000)
    location = registry.start("r")
    deadline = time.monotonic() + 60
    with socket.create_connection((registry.host, registry.port)) as sock:
        sock.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        sock.sendall(data[:600_000])
        # one that nobody reads yet has brought nothing when it breaks
        while registry("PATCH", location, b"", {"Content-Length": "0"}).status != 409:
            assert time.monotonic() < deadline
    while (answer := registry("PATCH", location, b"", {"Content-Length": "0"})).status != 202:
        assert time.monotonic() < deadline, answer
    end = int(answer.headers["Range"].partition("-")[2]) + 1
    assert 0 < end <= 600_000
    answer = registry("PUT", f"{location}?digest={digest_of(data)}", data[end:])
    assert answer.status == 201


def test_more_than_the_limit(start_registry: Callable[..., Registry]) -> None:
    """A blob above the configured limit is refused as it grows."""
    registry = start_registry(limits={"blob": "1MiB"})
    location = registry.start("r")
    answer = registry("PATCH", location, b"x" * (2 << 20))
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")
    registry.push_blob("r", b"x" * (1 << 20))


BLOB = descriptor(b"{}", CONFIG)
OTHER = {"mediaType": LAYER, "digest": digest_of(b"?"), "size": 1}


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"schemaVersion": 2, "config": BLOB, "layers": [], "manifests": []}, MANIFEST),
        ({"schemaVersion": 2, "config": BLOB, "layers": [], "manifests": []}, INDEX),
        ({"schemaVersion": 2, "mediaType": INDEX, "config": BLOB, "layers": []}, MANIFEST),
        ({"schemaVersion": 2, "mediaType": MANIFEST, "config": BLOB, "layers": []}, INDEX),
        ({"schemaVersion": 1, "config": BLOB, "layers": []}, MANIFEST),
        ({"schemaVersion": 2, "config": BLOB, "layers": [{**BLOB, "digest": "sha256:../../x"}]}, MANIFEST),
        ({"schemaVersion": 2, "config": BLOB, "layers": [{**BLOB, "size": -1}]}, MANIFEST),
        ({"schemaVersion": 2, "config": BLOB, "layers": [], "subject": {**BLOB, "digest": "x"}}, MANIFEST),
        ({"schemaVersion": 2, "config": BLOB, "layers": [], "fsLayers": []}, MANIFEST),
        ({"schemaVersion": 2, "config": BLOB}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ({"schemaVersion": 2, "config": BLOB, "layers": []}, "text/html"),
        ([], MANIFEST),
        ({"a": 1}, ""),
    ],
)
def test_manifests_that_two_readers_read_differently(registry: Registry, document: Any, media_type: str) -> None:
    """CVE-2021-41190 and its kin: an ambiguous or broken manifest is refused, and nothing of it stays."""
    registry.push_blob("r", b"{}")
    raw = json.dumps(document).encode()
    answer = registry.push_manifest("r", "v1", raw, media_type)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert registry("GET", "/v2/r/tags/list").json["tags"] == []
    assert not (registry.root / f"repositories/r/blobs/sha256/{digest_of(raw)[7:]}").exists()
    harmless = {"schemaVersion": 2, "config": BLOB, "layers": []}
    assert registry.push_manifest("r", "v1", json.dumps(harmless).encode(), MANIFEST).status == 201


@pytest.mark.parametrize("raw", [b"", b"{", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b'{"layers":[],"Layers":[]}'])
def test_manifests_that_are_no_json(registry: Registry, raw: bytes) -> None:
    """Nesting, bad encoding and doubled keys are refused, whatever they would cost to read."""
    answer = registry.push_manifest("r", "v1", raw)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_manifests_larger_than_the_limit(registry: Registry) -> None:
    """Four mebibytes are taken, one byte more is not, announced or not."""
    registry.push_blob("r", b"{}")
    raw = manifest_of(b"{}", annotations={"a": ""})
    raw = raw[:-3] + b"a" * ((4 << 20) - len(raw)) + raw[-3:]
    assert len(raw) == 4 << 20
    assert registry.push_manifest("r", "v1", raw).status == 201
    answer = registry.push_manifest("r", "v2", raw + b" ")
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


def test_required_content(registry: Registry) -> None:
    """What a manifest needs must be there, in this repository and of that size; foreign layers need not."""
    registry.push_blob("elsewhere", b"layer")
    registry.push_blob("r", b"{}")
    answer = registry.push_manifest("r", "v1", manifest_of(b"{}", b"layer"))
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json["errors"][0]["detail"] == {"digest": digest_of(b"layer")}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**OTHER, "mediaType": MANIFEST}]}
    assert registry.push_manifest("r", "v1", json.dumps(index).encode(), INDEX).code == "MANIFEST_BLOB_UNKNOWN"
    wrong = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**BLOB, "size": 3}, "layers": []}
    assert registry.push_manifest("r", "v1", json.dumps(wrong).encode()).code == "MANIFEST_BLOB_UNKNOWN"
    foreign = {**OTHER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": ["http://x/"]}
    there = {"schemaVersion": 2, "mediaType": MANIFEST, "config": BLOB, "layers": [foreign]}
    assert registry.push_manifest("r", "v1", json.dumps(there).encode()).status == 201


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(alphabet="abz/.%2eE5cF:_-+v", max_size=60), method=st.sampled_from(["GET", "PUT", "POST", "DELETE"])
)
def test_any_path(registry: Registry, path: str, method: str) -> None:
    """Whatever a path looks like, it is answered, not with 500, and no file appears outside."""
    answer = registry(method, "/v2/" + path, b"" if method in ("PUT", "POST") else None)
    assert answer.status < 500
    assert set(os.listdir(registry.root.parent)) == {registry.root.name}


def test_no_credential_is_logged(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither an authorization header, nor a query, nor a whole session gets into the access log."""
    import asyncio

    from aiohttp.test_utils import TestClient, TestServer

    from wherry.registry.observe import AccessLog
    from wherry.registry.server import create_app

    async def use() -> str:
        access = AccessLog()
        async with TestClient(TestServer(create_app(registry.service, access))) as client:
            headers = {"Authorization": "Basic c2VjcmV0OnBhc3M="}
            answer = await client.post("/v2/r/blobs/uploads/?token=hush", headers=headers)
            location = answer.headers["Location"]
            await client.patch(location, data=b"x", headers=headers)
        access.flush()
        return location.rpartition("/")[2]

    session = asyncio.run(use())
    logged = capfd.readouterr().err
    assert '"status":202' in logged
    for secret in ("c2VjcmV0", "hush", session):
        assert secret not in logged


def test_many_at_once(registry: Registry) -> None:
    """Thirty clients that push the same image leave one, whole."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            registry.push_image("r", "v1", b"layer")
        except Exception as error:  # noqa: BLE001 — shown below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert registry("GET", "/v2/r/tags/list").json["tags"] == ["v1"]
    assert len(registry.service.repositories.load("r").manifests) == 30
