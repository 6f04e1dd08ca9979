"""Names and ids: what is allowed, what is made, and how a container is found."""

import re

import pytest

from wherry.containers import names
from wherry.containers.model import Container, Record
from wherry.containers.records import Registry
from wherry.errors import AmbiguousPrefix, ContainerNotFound, InvalidArgument, NameInUse
from wherry.wire.containers import Config, HostConfig


def record(id_: str, name: str) -> Record:
    """Make a record of a container."""
    return Record(
        id=id_,
        name=name,
        created="2026-01-01T00:00:00Z",
        image="sha256:0",
        image_name="i",
        chain_ids=[],
        config=Config(),
        host_config=HostConfig(),
        path="true",
        args=[],
    )


@pytest.fixture
def registry() -> Registry:
    """Give a registry of three containers."""
    made = Registry()
    for id_, name in (("aaa1" + "0" * 60, "web"), ("aaa2" + "0" * 60, "aaa1"), ("bbbb" + "0" * 60, "db")):
        made.reserve(name, id_)
        made.add(Container(record(id_, name)))
    return made


@pytest.mark.parametrize("name", ["web", "/web", "a1", "A.b_c-d"])
def test_good_names(name: str) -> None:
    """A leading slash is dropped."""
    assert names.check(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "x", "-a", "a b", "ä1", "a/b", "../x", "a\n"])
def test_bad_names_are_refused_in_dockers_words(name: str) -> None:
    """Two characters at least, of Docker's alphabet."""
    with pytest.raises(InvalidArgument, match=re.escape("only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")):
        names.check(name)


def test_made_names_and_ids_are_valid() -> None:
    """Names pass the check, ids are 64 hex digits and never a number in their first twelve."""
    for attempt in range(50):
        assert names.check(names.generate(attempt))
        assert re.fullmatch("[0-9a-f]{64}", id_ := names.new_id())
        assert not id_[:12].isdecimal()


def test_a_name_goes_before_an_id_prefix(registry: Registry) -> None:
    """`aaa1` is the name of one container and the prefix of another."""
    assert registry.find("aaa1").name == "aaa1"
    assert registry.find("aaa10").name == "web"
    assert registry.find("/db").name == registry.find("b").name == "db"


def test_ambiguity_and_absence(registry: Registry) -> None:
    """Both errors are Docker's."""
    with pytest.raises(AmbiguousPrefix, match="multiple IDs found with provided prefix: aaa"):
        registry.find("aaa")
    for absent in ("nobody", "", "0"):
        with pytest.raises(ContainerNotFound, match=f"No such container: {absent}"):
            registry.find(absent)


def test_a_name_is_given_once(registry: Registry) -> None:
    """The second is refused and told by whom it is held; removal frees it."""
    holder = registry.find("web")
    with pytest.raises(NameInUse, match=f'The container name "/web" is already in use by container "{holder.id}"'):
        registry.reserve("web", "c" * 64)
    registry.discard(holder)
    registry.reserve("web", "c" * 64)
