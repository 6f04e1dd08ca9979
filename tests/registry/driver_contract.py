"""What every storage driver must do. A subclass gives a `driver`."""

import threading
import time

import pytest

from wherry.errors import Conflict, InvalidArgument, StoreCorrupt
from wherry.registry.storage.driver import Driver, Missing, walk


class DriverContract:
    """The suite; it asks nothing of how a driver does it."""

    def test_put_and_read(self, driver: Driver) -> None:
        """A value reads back whole, with its size."""
        driver.put("a/b/c", b"value")
        data, stat = driver.read("a/b/c", 100)
        assert data == b"value"
        assert stat.size == 5

    def test_put_replaces_and_changes_the_version(self, driver: Driver) -> None:
        """Replacing a value, at once and by one of the same size, gives another version."""
        versions = {driver.put("k", b"%04d" % n).version for n in range(200)}
        assert len(versions) == 200
        stat = driver.stat("k")
        assert stat is not None
        assert stat.version in versions
        assert driver.read("k", 10)[0] == b"0199"

    def test_missing(self, driver: Driver) -> None:
        """What is not there says so in one way."""
        assert driver.stat("no/such") is None
        assert driver.delete("no/such") is False
        assert driver.list("no/such") == []
        for call in (
            lambda: driver.read("no/such", 1),
            lambda: driver.open("no/such"),
            lambda: driver.append("no/such"),
            lambda: driver.link("no/such", "other"),
            lambda: driver.touch("no/such"),
        ):
            with pytest.raises(Missing):
                call()

    def test_a_prefix_is_no_value(self, driver: Driver) -> None:
        """A prefix has no stat and cannot be opened."""
        driver.put("a/b", b"x")
        assert driver.stat("a") is None
        with pytest.raises(Missing):
            driver.open("a")

    def test_read_refuses_more_than_the_limit(self, driver: Driver) -> None:
        """A value that is larger than expected is not read into memory."""
        driver.put("k", b"12345")
        with pytest.raises(StoreCorrupt):
            driver.read("k", 4)

    @pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "..", ".", "a/.", "a\0b", "a/"])
    def test_keys_that_are_none(self, driver: Driver, key: str) -> None:
        """A key that would leave its place is refused by every method."""
        for call in (
            lambda: driver.put(key, b""),
            lambda: driver.read(key, 1),
            lambda: driver.open(key),
            lambda: driver.stat(key),
            lambda: driver.delete(key),
            lambda: driver.create(key),
            lambda: driver.append(key),
            lambda: driver.link("a", key),
            lambda: driver.link(key, "a"),
            lambda: driver.touch(key),
        ):
            with pytest.raises(InvalidArgument):
                call()

    def test_ranges(self, driver: Driver) -> None:
        """Any part of a value can be read."""
        driver.put("k", bytes(range(100)))
        with driver.open("k") as reader:
            assert reader.read_at(10, 5) == bytes(range(10, 15))
            assert reader.read_at(95, 50) == bytes(range(95, 100))
            assert reader.read_at(100, 1) == b""

    def test_an_open_value_outlives_its_key(self, driver: Driver) -> None:
        """Who reads goes on reading when the key is deleted or replaced."""
        driver.put("k", b"first")
        with driver.open("k") as reader:
            driver.put("k", b"other")
            assert reader.read_at(0, 9) == b"first"
            driver.delete("k")
            assert reader.read_at(0, 9) == b"first"

    def test_a_writer_commits(self, driver: Driver) -> None:
        """What grows becomes a value only by commit, whole, under the target's key."""
        with driver.create("up/1") as writer:
            writer.write(b"one ")
            writer.write(bytearray(b"two"))
            assert writer.size == 7
            assert writer.read_at(4, 3) == b"two"
            assert driver.stat("done/1") is None
            writer.commit("done/1")
        assert driver.read("done/1", 100)[0] == b"one two"
        assert driver.stat("up/1") is None

    def test_commit_replaces(self, driver: Driver) -> None:
        """A commit replaces the value that is there."""
        driver.put("done", b"old")
        with driver.create("up/1") as writer:
            writer.write(b"new")
            writer.commit("done")
        assert driver.read("done", 10)[0] == b"new"

    def test_a_writer_is_continued(self, driver: Driver) -> None:
        """What was written stays, and is gone on with."""
        with driver.create("up/1") as writer:
            writer.write(b"one")
        with driver.append("up/1") as writer:
            assert writer.size == 3
            writer.write(b"two")
            writer.truncate(4)
            writer.write(b"!")
            writer.commit("done")
        assert driver.read("done", 10)[0] == b"onet!"

    def test_one_writer_at_a_time(self, driver: Driver) -> None:
        """A second writer is refused while the first one has it."""
        with driver.create("up/1"), pytest.raises(Conflict):
            driver.append("up/1")
        driver.append("up/1").close()

    def test_a_writer_cancels(self, driver: Driver) -> None:
        """Cancelling leaves nothing."""
        with driver.create("up/1") as writer:
            writer.write(b"one")
            writer.cancel()
        assert driver.stat("up/1") is None
        with pytest.raises(Missing):
            driver.append("up/1")

    def test_link(self, driver: Driver) -> None:
        """A link is the same value, and outlives the first key."""
        driver.put("a/x", b"value")
        driver.link("a/x", "b/y")
        first, second = driver.stat("a/x"), driver.stat("b/y")
        assert first is not None
        assert second is not None
        assert first.identity == second.identity
        assert second.links == 2
        driver.delete("a/x")
        assert driver.read("b/y", 10)[0] == b"value"
        left = driver.stat("b/y")
        assert left is not None
        assert left.links == 1

    def test_link_replaces(self, driver: Driver) -> None:
        """A link takes the place of what is there, also of the same value."""
        driver.put("a", b"value")
        driver.put("b", b"other")
        driver.link("a", "b")
        driver.link("a", "b")
        assert driver.read("b", 10)[0] == b"value"

    def test_touch(self, driver: Driver) -> None:
        """Touching makes a value young, and keeps what it is."""
        driver.put("k", b"v")
        before = time.time_ns()
        deadline = time.monotonic() + 5
        while True:
            driver.touch("k")
            stat = driver.stat("k")
            assert stat is not None
            if stat.modified >= before:
                break
            assert time.monotonic() < deadline
        assert driver.read("k", 1)[0] == b"v"

    def test_list_and_walk(self, driver: Driver) -> None:
        """Names come sorted, one level; a walk finds all."""
        for key in ("p/b/2", "p/a", "p/b/1", "q/c"):
            driver.put(key, b"")
        assert driver.list("p") == ["a", "b"]
        assert driver.list("p/b") == ["1", "2"]
        assert list(walk(driver, "p")) == ["p/a", "p/b/1", "p/b/2"]

    def test_prune(self, driver: Driver) -> None:
        """An empty prefix is forgotten, one with values is not."""
        driver.put("p/a/b", b"")
        driver.prune("p")
        assert driver.list("p") == ["a"]
        driver.delete("p/a/b")
        driver.prune("p")
        assert "p" not in list(driver.list("p"))
        assert driver.list("p") == []

    def test_exclusive(self, driver: Driver) -> None:
        """A lock is held by one thread at a time."""
        inside = most = 0

        def work() -> None:
            nonlocal inside, most
            for _ in range(50):
                with driver.exclusive("locks/x"):
                    inside += 1
                    most = max(most, inside)
                    inside -= 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1

    def test_nothing_is_left_behind(self, driver: Driver) -> None:
        """After all that a driver does, only values are there."""
        driver.put("v/a", b"1")
        driver.put("v/a", b"2")
        driver.link("v/a", "v/b")
        driver.link("v/b", "v/a")
        with driver.create("v/up") as writer:
            writer.write(b"x")
            writer.commit("v/c")
        assert list(walk(driver, "v")) == ["v/a", "v/b", "v/c"]
        assert driver.list("tmp") == []
        assert driver.sweep(time.time_ns() + 1) == 0
