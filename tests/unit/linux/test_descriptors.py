"""Room for descriptors: what begins is refused or waits near the limit, and a message that finds no room is told."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

from wherry.errors import DescriptorsLost, TooManyOpenFiles
from wherry.linux import descriptors
from wherry.linux.channel import MAX_MESSAGE, pair
from wherry.monitor.requests import Requests


def in_use() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd")) - 1


@contextlib.contextmanager
def no_more_than(more: int) -> Iterator[None]:
    """Let this process open only so many further descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling: list[int] = []
    highest = max(map(int, os.listdir("/proc/self/fd"))) + more + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(2))
        for _ in range(more):
            os.close(filling.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in filling:
            os.close(fd)


@pytest.fixture(params=["the kernel tells", "we count"])
def counting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as this kernel tells it, once as on one that does not."""
    if request.param == "we count":
        monkeypatch.setattr(descriptors, "_told", lambda: 0)


@pytest.mark.usefixtures("counting")
def test_counting() -> None:
    """The count is exact wherever the free numbers lie: above, between and below those in use."""
    before = in_use()
    made = [os.dup(2) for _ in range(300)]
    try:
        assert descriptors.beyond(before + 300)
        assert not descriptors.beyond(before + 301)
        os.close(made.pop(5))
        assert descriptors.beyond(before + 299)
        assert not descriptors.beyond(before + 300)
        while len(made) > 100:
            os.close(made.pop(0))
        assert descriptors.beyond(before + 100)
        assert not descriptors.beyond(before + 101)
    finally:
        for fd in made:
            os.close(fd)
    assert in_use() == before
    assert descriptors.beyond(0)
    with no_more_than(0):
        assert descriptors.beyond(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@pytest.mark.usefixtures("counting")
def test_what_begins_waits_for_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that fit one after the other are both done; one that does not fit at all is refused in words."""
    gap = [os.dup(2) for _ in range(64)]
    limit = in_use() + 40
    for fd in gap:
        os.close(fd)
    monkeypatch.setattr(descriptors, "limit", lambda: limit)
    monkeypatch.setattr(descriptors, "reserve", lambda: 20)
    order: list[str] = []

    async def begin(name: str) -> None:
        async with descriptors.room(f"cannot start {name}", 50):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    async def both() -> None:
        await asyncio.gather(begin("a"), begin("b"))

    asyncio.run(both())
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    monkeypatch.setattr(descriptors, "limit", lambda: 30)
    with pytest.raises(TooManyOpenFiles, match=r"cannot start c: .* may have 30 .* keeps 20 .*LimitNOFILE"):
        asyncio.run(begin("c"))
    assert order[-1] == "b ends"


@pytest.mark.parametrize("size", [10, 2 * MAX_MESSAGE])
def test_a_message_without_room_for_its_descriptors(size: int) -> None:
    """The receiver learns which request it was, and the connection stays good."""
    left, right = pair()
    with contextlib.closing(left), contextlib.closing(right):
        left.send({"seq": 7, "text": "x" * size}, {"a": 2})
        with no_more_than(0), pytest.raises(DescriptorsLost) as raised:
            right.receive()
        assert raised.value.facts["seq"] == 7
        left.send({"seq": 8})
        received = right.receive()
        assert received is not None
        assert received[0]["seq"] == 8


def test_a_reply_without_room_fails_its_request_alone() -> None:
    """Others on the same connection are answered."""

    async def test() -> None:
        ours, theirs = pair()
        closed: list[str] = []
        requests = Requests(ours, lambda _message: None, lambda: closed.append("closed"), ConnectionError)
        first = asyncio.ensure_future(requests.request({"op": "a"}))
        second = asyncio.ensure_future(requests.request({"op": "b"}))
        await asyncio.sleep(0)
        theirs.send({"seq": 1, "ok": True}, {"pidfd": 2})
        theirs.send({"seq": 2, "ok": True})
        with no_more_than(0):
            requests.read()
        with pytest.raises(DescriptorsLost):
            await first
        assert (await second)[0]["ok"]
        assert not closed
        requests.close()
        theirs.close()

    asyncio.run(test())
