"""Documents and requests that cost the registry as much as they can."""

import json
import threading
from typing import Any

import pytest

from tests.registry.harness import INDEX, MANIFEST, Registry, descriptor, digest_of, manifest_of
from wherry.registry import names
from wherry.registry.content.collect import Collector
from wherry.registry.storage.driver import Stat
from wherry.registry.web.images import Images


def _push_index(registry: Registry, name: str, *children: bytes, media_type: str, salt: int) -> bytes:
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(child, media_type) for child in children],
            "annotations": {"salt": str(salt)},
        }
    ).encode()
    answer = registry.push_manifest(name, digest_of(raw), raw, INDEX)
    assert answer.status == 201, answer.body
    return raw


def test_attack_indexes_whose_ways_multiply(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two indexes a level that both lead to both below, unlisted but for the highest: each is looked at a few times."""
    config = b'{"architecture":"amd64","os":"linux"}'
    registry.push_blob("r", config)
    image = manifest_of(config)
    assert registry.push_manifest("r", digest_of(image), image).status == 201
    below, media_type = [image], MANIFEST
    levels = [below]
    for number in range(14):
        below = [_push_index(registry, "r", *below, media_type=media_type, salt=2 * number + n) for n in range(2)]
        levels.append(below)
        media_type = INDEX
    for raw in (raw for level in levels[:-1] for raw in level):
        assert registry("DELETE", f"/v2/r/manifests/{digest_of(raw)}").status == 202

    driver = registry.service.driver
    stats = 0
    stat = driver.stat

    def count(key: str) -> Stat | None:
        nonlocal stats
        stats += 1
        return stat(key)

    monkeypatch.setattr(driver, "stat", count)
    Collector(registry.service.repositories, delay=3600).collect()
    assert 0 < stats < 1000
    monkeypatch.undo()
    for raw in (raw for level in levels for raw in level):
        assert driver.stat(names.blob_key("r", digest_of(raw))) is not None, "what a listed index needs stays"


def test_attack_a_blob_is_deleted_from_a_large_repository(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the manifests of a repository are read for the deletion of a blob, others push to it."""
    for number in range(3):
        registry.push_image("r", f"v{number}", b"layer %d" % number)
    spare = registry.push_blob("r", b"spare")
    repositories = registry.service.repositories
    reading, pushed = threading.Event(), threading.Event()
    read = repositories.read_manifest

    def slowly(name: str, digest: str) -> bytes:
        reading.set()
        assert pushed.wait(20), "the push waits for the deletion"
        return read(name, digest)

    monkeypatch.setattr(repositories, "read_manifest", slowly)
    answers: list[Any] = []
    deleting = threading.Thread(target=lambda: answers.append(registry("DELETE", f"/v2/r/blobs/{spare}")))
    deleting.start()
    assert reading.wait(20)
    registry.push_blob("r", b"another")
    pushed.set()
    deleting.join(30)
    assert answers[0].status == 202


@pytest.mark.parametrize("goes", [False, True])
def test_a_blob_that_is_referred_to_meanwhile_stays(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    """A manifest that is pushed, or deleted, between the look and the lock decides."""
    registry.push_image("r", "v1", b"layer")
    spare = registry.push_blob("r", b"spare")
    config = b'{"architecture":"amd64","os":"linux"}'
    registry.push_blob("r", config)
    raw = manifest_of(config, b"spare")
    if goes:
        assert registry.push_manifest("r", "v2", raw).status == 201
    repositories = registry.service.repositories
    user_of = repositories._user_of
    looks = 0

    def between(*arguments: Any) -> str:
        nonlocal looks
        looks += 1
        found = user_of(*arguments)
        if looks == 1 and goes:
            repositories.delete_manifest("r", digest_of(raw))
        elif looks == 1:
            repositories.put_manifest("r", "v2", raw, MANIFEST)
        return found

    monkeypatch.setattr(repositories, "_user_of", between)
    answer = registry("DELETE", f"/v2/r/blobs/{spare}")
    assert answer.status == (202 if goes else 405), answer.body


def test_attack_a_page_of_an_index_of_duplicates(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that names one image 20,000 times, or many images, is shown after a bounded number of reads."""
    config = b'{"architecture":"amd64","os":"linux"}'
    registry.push_blob("r", config)
    many = [manifest_of(config, annotations={"n": str(number)}) for number in range(70)]
    for image in many:
        assert registry.push_manifest("r", digest_of(image), image).status == 201
    for tag, children in (("same", many[:1] * 20_000), ("many", many)):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(c, MANIFEST) for c in children]}
        answer = registry.push_manifest("r", tag, json.dumps(index).encode(), INDEX)
        assert answer.status == 201, answer.body
    service = registry.service
    read = service.repositories.read_manifest
    reads = 0

    def count(name: str, digest: str) -> bytes:
        nonlocal reads
        reads += 1
        return read(name, digest)

    monkeypatch.setattr(service.repositories, "read_manifest", count)
    _, lines = Images(service.repositories, service.database).latest("r")
    assert {line.name: len(line.variants) for line in lines} == {"same": 1, "many": 64}
    assert reads < 100
