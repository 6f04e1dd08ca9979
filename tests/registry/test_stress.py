"""Collection against everything else at once (zot's gc-stress is the pattern).

WHERRY_STRESS_SECONDS sets how long; half a minute by default, five for the whole proof.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.registry.harness import CONFIG, LAYER, MANIFEST, Client, Registry, digest_of
from wherry.registry.content.check import check
from wherry.registry.content.collect import Collector, Freed

SECONDS = float(os.environ.get("WHERRY_STRESS_SECONDS", "30"))
DELAY = 6.0
WORKERS = 5
REPOSITORIES = ("red", "green", "blue/one", "blue/two")
LAYERS = [hashlib.sha512(b"%d" % n).digest() * (1 << n) for n in range(12)]


class Worker(threading.Thread):
    """One client; it knows what its own tags must be, and shares layers with all others."""

    def __init__(self, registry: Registry, number: int, until: float) -> None:
        super().__init__()
        self.client = Client(registry.host, registry.port)
        self.number = number
        self.random = random.Random(number)
        self.until = until
        self.tags: dict[tuple[str, str], bytes] = {}
        self.done: dict[str, int] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        actions = [
            self.push,
            self.push,
            self.push,
            self.retag,
            self.untag,
            self.delete,
            self.pull,
            self.pull,
            self.refer,
        ]
        try:
            while time.monotonic() < self.until:
                action = self.random.choice(actions)
                action()
                self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
        except BaseException as error:  # noqa: BLE001 — raised by the test
            self.error = error

    def blob(self, name: str, data: bytes) -> None:
        """Bring a blob as clients do: ask, mount, upload."""
        digest = digest_of(data)
        if self.client("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
            return
        other = self.random.choice(REPOSITORIES)
        answer = self.client("POST", f"/v2/{name}/blobs/uploads/?mount={digest}&from={other}")
        if answer.status == 201:
            return
        assert answer.status == 202, answer.body
        half = len(data) // 2
        location = answer.headers["Location"]
        answer = self.client("PATCH", location, data[:half], {"Content-Range": f"0-{half - 1}"})
        assert answer.status == 202, answer.body
        answer = self.client("PUT", f"{location}?digest={digest}", data[half:])
        assert answer.status == 201, answer.body

    def put(self, name: str, tag: str, layers: list[bytes], **more: object) -> None:
        config = json.dumps({"salt": self.random.getrandbits(64)}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": LAYER, "digest": digest_of(data), "size": len(data)} for data in layers],
            **more,
        }
        raw = json.dumps(document).encode()
        while True:
            began = time.monotonic()
            for data in (*layers, config):
                self.blob(name, data)
            answer = self.client.push_manifest(name, tag, raw)
            # a lease is promised for half of the delay; on a machine so slow that it ran out, a client begins again
            if answer.status == 400 and time.monotonic() - began > DELAY / 2:
                continue
            assert answer.status == 201, (answer.body, time.monotonic() - began)
            break
        self.tags[name, tag] = raw
        self.verify(name, tag)

    def push(self) -> None:
        """An image of some of the shared layers."""
        layers = self.random.sample(LAYERS, self.random.randint(1, 4))
        self.put(self.random.choice(REPOSITORIES), f"w{self.number}-{self.random.randint(0, 5)}", layers)

    def mine(self) -> tuple[str, str] | None:
        """One of my tags."""
        return self.random.choice(list(self.tags)) if self.tags else None

    def retag(self) -> None:
        """A second tag for what is there."""
        if found := self.mine():
            name, tag = found
            raw = self.tags[found]
            assert self.client.push_manifest(name, f"{tag}x"[-20:], raw).status == 201
            self.tags[name, f"{tag}x"[-20:]] = raw

    def untag(self) -> None:
        """One tag goes."""
        if found := self.mine():
            del self.tags[found]
            assert self.client("DELETE", f"/v2/{found[0]}/manifests/{found[1]}").status == 202

    def delete(self) -> None:
        """A manifest goes, with all its tags."""
        if found := self.mine():
            raw = self.tags[found]
            self.tags = {key: of for key, of in self.tags.items() if (key[0], of) != (found[0], raw)}
            assert self.client("DELETE", f"/v2/{found[0]}/manifests/{digest_of(raw)}").status == 202

    def pull(self) -> None:
        """Everything of an image, hashed."""
        if found := self.mine():
            self.verify(*found)

    def refer(self) -> None:
        """A referrer, by digest only: its subject keeps it."""
        if found := self.mine():
            name = found[0]
            subject = {"mediaType": MANIFEST, "digest": digest_of(self.tags[found]), "size": len(self.tags[found])}
            layer = self.random.choice(LAYERS)
            config = b"{}"
            began = time.monotonic()
            for data in (layer, config):
                self.blob(name, data)
            raw = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "artifactType": "a/b",
                    "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": 2},
                    "layers": [{"mediaType": LAYER, "digest": digest_of(layer), "size": len(layer)}],
                    "subject": subject,
                    "annotations": {"salt": str(self.random.getrandbits(64))},
                }
            ).encode()
            answer = self.client.push_manifest(name, digest_of(raw), raw)
            assert answer.status == 201 or time.monotonic() - began > DELAY / 2, answer.body
            if answer.status == 201:
                listed = self.client("GET", f"/v2/{name}/referrers/{subject['digest']}").json["manifests"]
                assert digest_of(raw) in [item["digest"] for item in listed]

    def verify(self, name: str, tag: str) -> None:
        """Pull an image of mine."""
        raw = self.client("GET", f"/v2/{name}/manifests/{tag}").body
        assert raw == self.tags[name, tag]
        document = json.loads(raw)
        for item in (document["config"], *document["layers"]):
            answer = self.client("GET", f"/v2/{name}/blobs/{item['digest']}")
            assert answer.status == 200, (name, tag, item, answer.body)
            assert digest_of(answer.body) == item["digest"]


@pytest.mark.slow
def test_collection_against_everything(start_registry: Callable[..., Registry]) -> None:
    """Pushes, tags, mounts, deletions and pulls, with a collection every second in the server and others beside it:
    no blob that is referred to is lost, no garbage is kept.
    """
    registry = start_registry(gc={"interval": 0, "delay": DELAY, "untagged": "delete"})
    until = time.monotonic() + SECONDS
    workers = [Worker(registry, number, until) for number in range(WORKERS)]
    freed: list[Freed] = []
    beside: list[subprocess.CompletedProcess[str]] = []
    command = [sys.executable, "-m", "wherry.registry", "gc", "--root", str(registry.root)]
    stop = threading.Event()

    def collect() -> None:
        while not stop.wait(1):
            freed.append(registry.service.collector.collect())

    def collect_beside() -> None:
        while not stop.wait(12):
            done = subprocess.run(
                [*command, "--delay", f"{DELAY}s", "--untagged", "delete"], capture_output=True, text=True, check=False
            )
            beside.append(done)

    collectors = [threading.Thread(target=collect), threading.Thread(target=collect_beside)]
    for thread in (*workers, *collectors):
        thread.start()
    for worker in workers:
        worker.join()
    stop.set()
    for thread in collectors:
        thread.join()
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    assert [done.stderr for done in beside if done.returncode] == []
    assert sum(one.blobs for one in freed) > 0, "nothing was ever collected: the test tests nothing"
    assert not any(one.damaged for one in freed)
    for worker in workers:
        for name, tag in worker.tags:
            worker.verify(name, tag)
    repositories = registry.service.repositories
    assert check(repositories).problems == []
    last = Collector(repositories, delay=0, upload_delay=0, delete_untagged=True)
    last.collect()
    last.collect()
    for name in repositories.names():
        snapshot = repositories.load(name)
        assert snapshot.tags.keys() == {tag for worker in workers for of, tag in worker.tags if of == name}
        needed = set()
        for worker in workers:
            for (of, _), raw in worker.tags.items():
                if of == name:
                    document = json.loads(raw)
                    needed |= {digest_of(raw), *(i["digest"] for i in (document["config"], *document["layers"]))}
        held = {f"sha256:{hex_}" for hex_ in os.listdir(_blobs(registry, name))}
        referrers = held & snapshot.manifests.keys() - needed
        assert len(held - needed) <= 3 * len(referrers) + 1, "garbage was kept"
        assert needed <= held
    assert check(repositories).problems == []
    total = {key: sum(worker.done.get(key, 0) for worker in workers) for key in workers[0].done}
    print(f"{total}; {len(freed)} collections freed {sum(one.size for one in freed)} bytes")


def _blobs(registry: Registry, name: str) -> str:
    return str(registry.root / "repositories" / name.replace("/", "+") / "blobs/sha256")
