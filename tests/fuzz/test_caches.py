"""Random build caches of strangers: read or refused, and never an answer for a build that did not name them."""

import asyncio
import contextlib
import hashlib
import json
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import CHANGES, ROUND, changed, for_a_while
from wherry.builder.cache import documents as cacheimages
from wherry.builder.cache.offers import Offers
from wherry.builder.cache.store import Cache, Record
from wherry.builder.contexts.root import EMPTY_ROOT, Root
from wherry.builder.graph.operations import Exec, Vertex
from wherry.builder.progress import Step
from wherry.builder.solver import Executor, Solver
from wherry.errors import WherryError
from wherry.oci.image import OCI_CONFIG, Descriptor, Manifest
from wherry.store.images import LayerRecord


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Engine:
    """A cache in memory, and steps that are carried out by saying so."""

    def __init__(self) -> None:
        async def write(_change: object) -> None:
            """Nothing is durable here."""

        exists = SimpleNamespace(exists=lambda _name: True, size=lambda _chain: 1)
        self.stores = cast(Any, SimpleNamespace(overlay=exists, blobs=exists))
        database = SimpleNamespace(read=lambda _sql: [], write=write, submit=lambda _change: None)
        self.cache = Cache(cast(Any, database), self.stores)
        self.done: set[str] = set()

    async def execute(self, op: Exec, inputs: list[Any], step: Step) -> Record:
        """Carry out a step: its layer says so."""
        below = inputs[0] or EMPTY_ROOT
        digest = _digest(f"own {op.args} {below.chain}")
        self.done.add(digest)
        layer = LayerRecord(digest, 1, digest, 1)
        return Record(digest[7:31], layer, below.on_top(layer).chain, below.chain, step.vertex.name)

    async def stack(self, below: Root, record: Record) -> Root:
        """Put its layer on a root."""
        return below if record.layer is None else below.on_top(record.layer)

    def stacked(self, below: Root, record: Record) -> Root | None:
        """The same at once."""
        return below if record.layer is None else below.on_top(record.layer)

    def settled(self, record: Record) -> Record | None:
        """All layers are here."""
        return record

    async def build(self, steps: list[str], offers: Offers | None = None) -> Solver:
        """Build a Dockerfile of these instructions."""
        solver = Solver(cast(Executor, self), self.cache, lambda _message: None, offers=offers)
        vertex: Vertex | None = None
        for step in steps:
            vertex = Vertex(Exec((step,)), (vertex,), step)
        await solver.root(vertex)
        await solver.keep()
        await solver.close()
        self.cache.write_uses()
        return solver


PROJECTS = [["a", "b", "c"], ["a", "x"], ["v"], ["v", "a"]]


def _true_keys() -> list[str]:
    """The keys of all steps of all projects, as an engine that nobody attacks computes them."""

    async def found() -> list[str]:
        engine = Engine()
        keys = []
        for project in PROJECTS:
            keys += [key for one in (await engine.build(project)).keys.values() for key in one]
        return keys

    return asyncio.run(found())


_KEYS = st.sampled_from([*dict.fromkeys(_true_keys()), _digest("no step"), "sha256:x", "", "imported:" + _digest("e")])
_LAYERS = 3
_RECORDS = st.fixed_dictionaries(
    {
        "keys": st.lists(_KEYS | st.integers() | st.none(), max_size=5),
        "layer": st.integers(-2, _LAYERS) | st.booleans(),
    },
    optional={
        "created": st.none() | st.integers(-(1 << 70), 1 << 70),
        "description": st.none() | st.text(max_size=4) | st.integers(),
    },
)
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | _KEYS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["keys", "layer", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_CONFIGS = st.fixed_dictionaries(
    {"records": st.lists(_RECORDS | _ANY, max_size=6) | _ANY},
    optional={"mounts": st.lists(st.dictionaries(st.sampled_from(["key", "id", "layer"]), _ANY), max_size=3) | _ANY},
)
_EVIL = [_digest(f"evil {number}") for number in range(_LAYERS)]
_DESCRIPTORS = [Descriptor("application/vnd.oci.image.layer.v1.tar", digest, 1) for digest in _EVIL]


async def _attack(raw: bytes, first: int, second: int, media_type: str = cacheimages.CONFIG_TYPE) -> None:
    engine = Engine()
    told = Descriptor(media_type, _digest("config"), len(raw))
    manifest = Manifest(schema_version=2, config=told, layers=_DESCRIPTORS)
    offers = Offers(engine.stores)

    async def bring(_layer: LayerRecord) -> None:
        """It is here."""

    with contextlib.suppress(WherryError):
        contents = cacheimages.read(raw, manifest)
        offers.add(contents.steps, bring)
        assert all(layer.blob in _EVIL for _, layer in contents.mounts)
    named = await engine.build(PROJECTS[first], offers)
    computed = {key for one in named.keys.values() for key in one}
    assert {key for one in named.all_keys().values() for key in one} <= computed
    other = await engine.build(PROJECTS[second])
    for record in other.records.values():
        assert record.layer is not None
        assert record.layer.blob in engine.done, "another build has got an imported layer"
    clean = await Engine().build(PROJECTS[second])
    assert {vertex: record.chain for vertex, record in other.records.items()} == {
        vertex: record.chain for vertex, record in clean.records.items()
    }


@ROUND
@given(_CONFIGS, st.integers(0, len(PROJECTS) - 1), st.integers(0, len(PROJECTS) - 1))
@example({"records": [{"keys": _true_keys()[:4], "layer": 0}, {"keys": _true_keys()[4:], "layer": 1}]}, 0, 2)
@example({"records": [{"keys": [key], "layer": -1} for key in _true_keys()]}, 1, 1)
@example({"records": [{"keys": _true_keys()[:1], "layer": place} for place in (_LAYERS, -2, "0", True, None)]}, 0, 0)
def _caches(config: dict[str, Any], first: int, second: int) -> None:
    raw = json.dumps({"diff_ids": _EVIL, **config}).encode()
    asyncio.run(_attack(raw, first, second))


_RECORD = {"keys": _true_keys()[:2], "layer": 0, "created": 1, "description": "RUN x"}
_RECORDS_TOLD = {"records": [_RECORD, {"keys": _true_keys()[2:4], "layer": -1}]}
_MOUNTS_TOLD = [{"key": "a" * 32, "id": "x", "layer": 1}]
_ALONE = json.dumps({"diff_ids": _EVIL, "mounts": _MOUNTS_TOLD, **_RECORDS_TOLD}).encode()
_INLINE = json.dumps({"rootfs": {"diff_ids": _EVIL}, cacheimages.KEY: _RECORDS_TOLD}).encode()
_NESTED = st.integers(1, 3000).map(lambda depth: b'{"records":' * depth + b"[]" + b"}" * depth)
_MUTATED = st.tuples(st.sampled_from([_ALONE, _INLINE]), CHANGES).map(lambda pair: changed(*pair)) | _NESTED


@ROUND
@given(_MUTATED, st.sampled_from([cacheimages.CONFIG_TYPE, OCI_CONFIG, "application/json"]), st.integers(0, 1))
@example(_ALONE, cacheimages.CONFIG_TYPE, 0)
@example(_INLINE, OCI_CONFIG, 0)
@example(_ALONE.replace(b"1}", b"1e400}"), cacheimages.CONFIG_TYPE, 0)
@example(_ALONE.replace(b"RUN", b"\\ud800"), cacheimages.CONFIG_TYPE, 0)
def _cache_documents(raw: bytes, media_type: str, first: int) -> None:
    asyncio.run(_attack(raw, first, 1 - first, media_type))


def test_mutated_caches() -> None:
    """A cache's document with other bytes is refused or read, and no later build gets anything of it either."""
    for_a_while(_cache_documents)


def test_imported_caches() -> None:
    """Whatever an imported cache says, a later build without it gets only what this engine has carried out."""
    for_a_while(_caches)
