"""resolve, tag, remove, list, inspect, history, prune: Docker's rules and words, compared with dockerd 26."""

import json
import os
from typing import Any

import pytest

from tests.images import image_archives as make
from tests.images.conftest import Store
from wherry.errors import AmbiguousPrefix, ImageInUse, ImageNotFound, InvalidArgument, InvalidReference

pytestmark = pytest.mark.root

BASE = make.tar({"bin/": b"", "bin/sh": b"#!shell" * 100})
TOP = make.tar({"etc/": b"", "etc/motd": b"hello"})
ONE = make.config([BASE])
TWO = make.config([BASE, TOP], config={"Labels": {"a": "b", "c": ""}}, created="2021-01-02T03:04:05Z")
ID1, ID2 = make.sha(ONE), make.sha(TWO)
SHORT = ID1[7:19]
USER = "0123456789abcdef" * 4


@pytest.fixture
def loaded(store: Store) -> Store:
    """A store with two images, one with two names in two repositories."""
    archive = make.docker20([(ONE, [BASE], ["one:latest"]), (TWO, [BASE, TOP], ["two:1", "ghcr.io/x/two:2"])])
    store.load(make.tar(archive))
    return store


def test_resolve(loaded: Store) -> None:
    """An image is found by each of its names, by its id and by the beginning of that; the answer is kept in memory."""
    resolve = loaded.images.resolve
    for name in ("one", "one:latest", "docker.io/library/one", "index.docker.io/one", ID1, ID1[7:], SHORT, ID1[:20]):
        assert resolve(name).id == ID1
    assert resolve("two:1") is resolve("ghcr.io/x/two:2") is resolve(ID2)
    assert resolve("two:1").names == ["two:1", "ghcr.io/x/two:2"]
    assert resolve("one") is resolve("one")
    for name, words in (
        ("nope", "No such image: nope:latest"),
        ("two", "No such image: two:latest"),
        ("x/y:z", "No such image: x/y:z"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("0" * 64, "No such image: sha256:" + "0" * 64),
        (f"one@{ID1}", f"No such image: one@{ID1}"),
        ("sha256:zz", "No such image: sha256:zz"),
    ):
        with pytest.raises(ImageNotFound) as caught:
            resolve(name)
        assert str(caught.value) == words
    for name in ("", "One", "a b", "-"):
        with pytest.raises(InvalidReference):
            resolve(name)


def test_ambiguous(store: Store) -> None:
    """A beginning that fits several ids is refused; a name that looks like one wins."""
    number, found = 0, {}
    while True:
        raw = make.config([], comment=str(number))
        number += 1
        first = make.sha(raw)[7:8]
        if first in found:
            break
        found[first] = raw
    store.load(make.tar(make.docker20([(found[first], [], None), (raw, [], None)])))
    with pytest.raises(AmbiguousPrefix, match=f"Multiple IDs found with provided prefix: {first}"):
        store.images.resolve(first)
    store.run(store.images.tag(make.sha(raw), first))
    assert store.images.resolve(first).id == make.sha(raw)


def test_names_change_what_resolves(loaded: Store) -> None:
    """What was resolved before is not given again when names have moved."""
    assert loaded.images.resolve("one").id == ID1
    loaded.run(loaded.images.tag("two:1", "one"))
    assert loaded.images.resolve("one").id == ID2
    assert loaded.images.resolve(ID1).names == []
    loaded.remove("one")
    with pytest.raises(ImageNotFound):
        loaded.images.resolve("one")


def test_tag(loaded: Store) -> None:
    """A tag is a name more for the same image; the rest of what could be asked is refused."""
    assert str(loaded.run(loaded.images.tag("one", "localhost:5000/x", "v1"))) == "localhost:5000/x:v1"
    loaded.run(loaded.images.tag(SHORT, "y:z"))
    loaded.run(loaded.images.tag("one", "x3:aa", "qq"))
    assert loaded.images.resolve("one").names == ["one:latest", "x3:qq", "y:z", "localhost:5000/x:v1"]
    assert len(loaded.listing()) == 2
    for repo, tag, words in (
        ("FOO", "t", "invalid reference format: repository name (library/FOO) must be lowercase"),
        ("foo", "bad tag", "invalid tag format"),
        (f"foo@{ID1}", "", "cannot import digest reference"),
        ("sha256", "abc", "refusing to create an ambiguous tag using digest algorithm as name"),
        ("a//b", "", "invalid reference format"),
    ):
        with pytest.raises(InvalidReference) as caught:
            loaded.run(loaded.images.tag("one", repo, tag))
        assert str(caught.value) == words
    with pytest.raises(ImageNotFound, match="No such image: nope:latest"):
        loaded.run(loaded.images.tag("nope", "x"))


def test_remove_names(loaded: Store) -> None:
    """A name goes alone while there are others; the last one takes the image along, and only its own layers."""
    chains = loaded.images.resolve("two:1").chain_ids
    assert loaded.remove("two:1") == ["Untagged: two:1"]
    assert loaded.remove("ghcr.io/x/two:2") == ["Untagged: ghcr.io/x/two:2", f"Deleted: {ID2}", f"Deleted: {chains[1]}"]
    loaded.check()
    assert loaded.remove("one") == ["Untagged: one:latest", f"Deleted: {ID1}", f"Deleted: {chains[0]}"]
    loaded.check()
    assert os.listdir(loaded.roots.trash) == []
    assert loaded.listing() == []


def test_remove_id(loaded: Store) -> None:
    """By id all names of one repository go; names in several need force."""
    with pytest.raises(ImageInUse) as caught:
        loaded.remove(ID2[7:19])
    assert str(caught.value) == (
        f"conflict: unable to delete {ID2[7:19]} (must be forced) - image is referenced in multiple repositories"
    )
    report = loaded.remove(ID2[7:14], force=True)
    assert report[:3] == ["Untagged: two:1", "Untagged: ghcr.io/x/two:2", f"Deleted: {ID2}"]
    assert loaded.remove(SHORT)[:2] == ["Untagged: one:latest", f"Deleted: {ID1}"]
    loaded.check()


def test_two_tags_of_one_repository(loaded: Store) -> None:
    """Two tags are several references, though of one repository, as dockerd has it."""
    loaded.run(loaded.images.tag("one", "one:2"))
    with pytest.raises(ImageInUse, match="multiple repositories"):
        loaded.remove(SHORT)


@pytest.mark.parametrize("running", [False, True])
def test_remove_used_by_name(loaded: Store, running: bool) -> None:
    """The last name of an image that a container uses goes only by force; a running one keeps the image, nameless."""
    loaded.used.update(loaded.images.resolve("one").chain_ids)
    with pytest.raises(ImageInUse) as caught:
        loaded.remove("one", users=[(USER, running)])
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "one" (must force) - '
        f"container {USER[:12]} is using its referenced image {SHORT}"
    )
    report = loaded.remove("one", force=True, users=[(USER, running)])
    if running:
        assert report == ["Untagged: one:latest"]
        assert loaded.images.resolve(ID1).dangling
    else:
        assert report == ["Untagged: one:latest", f"Deleted: {ID1}"]
    assert loaded.remove("two:1", users=[(USER, running)]) == ["Untagged: two:1"]


@pytest.mark.parametrize(
    ("running", "force", "words"),
    [
        (False, False, "(must be forced) - image is being used by stopped container"),
        (True, False, "(cannot be forced) - image is being used by running container"),
        (True, True, "(cannot be forced) - image is being used by running container"),
    ],
)
def test_remove_used_by_id(loaded: Store, running: bool, force: bool, words: str) -> None:
    """By id, a stopped container asks for force and a running one forbids."""
    with pytest.raises(ImageInUse) as caught:
        loaded.remove(SHORT, force=force, users=[(USER, running)])
    assert str(caught.value) == f"conflict: unable to delete {SHORT} {words} {USER[:12]}"
    assert loaded.names() == ["ghcr.io/x/two:2", "one:latest", "two:1"]


def test_layers_of_containers_stay(loaded: Store) -> None:
    """Layers that a container stands on stay when their image is removed by force, and go with the container."""
    chains = loaded.images.resolve("two:1").chain_ids
    loaded.used.update(chains)
    loaded.remove("two:1")
    report = loaded.remove("ghcr.io/x/two:2", force=True, users=[(USER, False)])
    assert report == ["Untagged: ghcr.io/x/two:2", f"Deleted: {ID2}"]
    loaded.remove("one")
    assert set(loaded.overlay.walk()) == set(chains)
    loaded.used.clear()
    assert loaded.run(loaded.images.collect()) == 2
    loaded.check()


def test_remove_errors(loaded: Store) -> None:
    """What is not there, or is no name, is said as dockerd says it."""
    for name, error, words in (
        ("nope", ImageNotFound, "No such image: nope:latest"),
        ("FOO", InvalidReference, "invalid reference format: repository name (library/FOO) must be lowercase"),
        ("a@sha256:12", InvalidReference, "invalid reference format"),
    ):
        with pytest.raises(error) as caught:
            loaded.remove(name)
        assert str(caught.value) == words


def test_children(loaded: Store) -> None:
    """An image that another was built from cannot be removed; its name can, and it goes with the other."""
    stores = loaded.images._stores
    record = stores.records.by_id[ID2]
    stores.records.by_id[ID2] = type(record)(record.id, record.manifest, record.layers, record.stored_at, parent=ID1)
    stores.forget(ID2)  # what load has read of it, without a parent
    for force in (False, True):
        with pytest.raises(ImageInUse) as caught:
            loaded.remove(SHORT, force=force)
        assert str(caught.value) == (
            f"conflict: unable to delete {SHORT} (cannot be forced) - image has dependent child images"
        )
    assert loaded.remove("one") == ["Untagged: one:latest"]
    assert [image["Id"] for image in loaded.listing()] == [ID2]
    assert [image["Id"] for image in loaded.listing(all=True)] == [ID2, ID1]
    report = loaded.remove(ID2, force=True)
    assert f"Deleted: {ID1}" in report
    loaded.check()


def test_list(loaded: Store) -> None:
    """A listing has Docker's keys, newest first."""
    newest, oldest = loaded.listing()
    assert newest == {
        "Containers": -1,
        "Created": 1609556645,
        "Id": ID2,
        "Labels": {"a": "b", "c": ""},
        "ParentId": "",
        "RepoDigests": [],
        "RepoTags": ["two:1", "ghcr.io/x/two:2"],
        "SharedSize": -1,
        "Size": 705,
    }
    assert (oldest["Id"], oldest["Size"], oldest["Created"]) == (ID1, 700, 1577934245)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, [ID2, ID1]),
        ({"dangling": ["false"]}, [ID2, ID1]),
        ({"dangling": ["true"]}, []),
        ({"label": ["a"]}, [ID2]),
        ({"label": ["a=b", "c="]}, [ID2]),
        ({"label": ["a=c"]}, []),
        ({"reference": ["one"]}, [ID1]),
        ({"reference": ["two"]}, [ID2]),
        ({"reference": ["two:*"]}, [ID2]),
        ({"reference": ["*"]}, [ID2, ID1]),
        ({"reference": ["*/*/*"]}, [ID2]),
        ({"reference": ["ghcr.io/x/t[a-z]o:?"]}, [ID2]),
        ({"reference": ["[^t]*"]}, [ID1]),
        ({"reference": ["on", "two:2"]}, []),
        ({"before": ["two:1"]}, [ID1]),
        ({"since": ["one"]}, [ID2]),
        ({"until": ["2020-06-01"]}, [ID1]),
        ({"until": ["1h"]}, [ID2, ID1]),
        ({"until": ["1600000000"]}, [ID1]),
    ],
)
def test_filters(loaded: Store, filters: dict[str, list[str]], ids: list[str]) -> None:
    """Each filter chooses what Docker's chooses."""
    assert [image["Id"] for image in loaded.listing(filters)] == ids


def test_names_that_were_asked_for(loaded: Store) -> None:
    """A listing narrowed by reference shows of each image only the names that fit; the image keeps them all."""
    assert [image["RepoTags"] for image in loaded.listing({"reference": ["two"]})] == [["two:1"]]
    assert loaded.images.resolve("two:1").names == ["two:1", "ghcr.io/x/two:2"]


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"dangling": ["x"]}, "invalid filter 'dangling=[x]'"),
        ({"dangling": ["true", "false"]}, "invalid filter 'dangling=[true false]'"),
        ({"until": ["x"]}, 'failed to parse value as time or duration: "x"'),
        ({"reference": ["[x"]}, "syntax error in pattern"),
        ({"before": ["x"]}, "No such image: x:latest"),
    ],
)
def test_bad_filters(loaded: Store, filters: dict[str, list[str]], words: str) -> None:
    """A filter that does not exist, or a value that is none, is refused in Docker's words."""
    with pytest.raises((InvalidArgument, ImageNotFound)) as caught:
        loaded.listing(filters)
    assert str(caught.value) == words


def test_repository_that_looks_like_an_id(loaded: Store) -> None:
    """A repository of 64 hex digits, which only its full form names, spoils no listing."""
    full = "docker.io/library/" + "ab" * 32
    loaded.run(loaded.images.tag("one", full))
    assert len(loaded.listing({"reference": ["*"]})) == 2
    assert loaded.images.resolve(full).id == ID1
    assert loaded.remove(full) == ["Untagged: " + "ab" * 32 + ":latest"]


def test_inspect(loaded: Store) -> None:
    """Inspect has Docker's keys, and all that the config says."""
    answer = loaded.inspect("two:1")
    assert answer["Id"] == ID2
    assert answer["RepoTags"] == ["two:1", "ghcr.io/x/two:2"]
    assert answer["Config"]["Labels"] == {"a": "b", "c": ""}
    assert answer["Config"]["User"] == ""
    assert answer["RootFS"] == {"Type": "layers", "Layers": [make.sha(BASE), make.sha(TOP)]}
    assert os.path.isdir(answer["GraphDriver"]["Data"]["UpperDir"])
    assert answer["Metadata"]["LastTagTime"].startswith("2")
    json.dumps(answer)


def test_history(loaded: Store) -> None:
    """History is newest first; the newest step has id and names."""
    top, bottom = loaded.images.history("two:1")
    assert (top["Id"], top["Size"], top["Tags"]) == (ID2, 5, ["two:1", "ghcr.io/x/two:2"])
    assert (bottom["Id"], bottom["Size"], bottom["Tags"]) == ("<missing>", 700, None)
    assert bottom["CreatedBy"] == "made"


def test_history_of_an_image_that_tells_nothing(store: Store) -> None:
    """Layers without a word of history are listed; steps without a layer are too."""
    silent = make.config([BASE, TOP], history=[{"empty_layer": True, "created_by": "x"}, {"created_by": "y"}])
    store.load(make.tar(make.docker20([(silent, [BASE, TOP], ["silent:latest"])])))
    sizes = [(step["CreatedBy"], step["Size"]) for step in store.images.history("silent")]
    assert sizes == [("", 5), ("y", 700), ("x", 0)]


def test_prune(loaded: Store) -> None:
    """Prune takes dangling images; `dangling=false` takes all that no container uses."""

    def prune(filters: dict[str, list[str]] | None = None, used: str = "") -> dict[str, Any]:
        return loaded.run(loaded.images.prune(filters, in_use=lambda id_: [(USER, False)] if id_ == used else []))

    assert prune() == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    loaded.run(loaded.images.tag("one", "two:1"))
    loaded.run(loaded.images.tag("one", "ghcr.io/x/two:2"))
    chains = loaded.images.resolve(ID2).chain_ids
    answer = prune()
    assert answer == {"ImagesDeleted": [{"Deleted": ID2}, {"Deleted": chains[1]}], "SpaceReclaimed": 5}
    assert prune({"dangling": ["false"]}, used=ID1)["ImagesDeleted"] is None
    assert prune({"dangling": ["false"], "label!": ["a"]})["SpaceReclaimed"] == 700
    loaded.check()
    with pytest.raises(InvalidArgument, match="invalid filter 'reference'"):
        prune({"reference": ["x"]})


def test_ensure(loaded: Store) -> None:
    """A snapshot that was lost is made again from its blob."""
    image = loaded.images.resolve("two:1")
    loaded.overlay.remove(image.chain_ids[1])
    loaded.run(loaded.images.ensure(image))
    assert os.path.exists(f"{loaded.overlay.path(image.chain_ids[1])}/etc/motd")
    loaded.check()


def test_restart(loaded: Store) -> None:
    """A store that is opened again knows what it knew."""
    loaded.close()
    loaded.open()
    assert loaded.run(loaded.images.recover()) == 0
    assert loaded.names() == ["ghcr.io/x/two:2", "one:latest", "two:1"]
    loaded.check()


def test_lost_database(loaded: Store) -> None:
    """Without its database a store still has its images; their names are lost."""
    loaded.close()
    os.unlink(loaded.roots.database)
    loaded.open()
    assert loaded.run(loaded.images.recover()) == 2
    assert loaded.names() == []
    assert loaded.images.resolve(SHORT).config.config.cmd == ["sh"]
    assert loaded.images.resolve(ID2).size == 705
    loaded.check()
