"""How containers share the questions that netd has under way; nothing is sent."""

from wherry.linux.loop import Loop
from wherry.network.dns_message import parse_query
from wherry.network.netd_forward import MAX_AT_ONCE, Forward, Forwarder

_QUERY = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01"


class Container:
    """Asks servers that never answer: the sockets that it asks for are never opened."""

    def __init__(self, forwarder: Forwarder, name: str) -> None:
        self._forwarder = forwarder
        self.name = name
        self.given_up: list[int] = []

    def ask(self, number: int = 0) -> Forward | None:
        """Ask; the number is in `given_up` when netd ends the question."""
        return self._forwarder.ask(
            self.name,
            _QUERY,
            parse_query(_QUERY).question,
            ["192.0.2.1"],
            False,
            lambda _family, _kind, _given: None,
            lambda _answer: self.given_up.append(number),
        )


def _forwarder() -> Forwarder:
    def fail(error: BaseException) -> None:
        raise error

    return Forwarder(Loop(fail, lambda: None))


def test_attack_floods_leave_the_others_their_share() -> None:
    """While four containers have all the questions, a fifth asks as many as each of them; theirs end, oldest first."""
    forwarder = _forwarder()
    floods = [Container(forwarder, f"flood{number}") for number in range(4)]
    for number in range(MAX_AT_ONCE // 4):
        for flood in floods:
            assert flood.ask(number) is not None
    assert len(forwarder.pending) == MAX_AT_ONCE
    victim = Container(forwarder, "victim")
    for _ in range(MAX_AT_ONCE // 5):
        assert victim.ask() is not None
    assert victim.given_up == []
    assert len(forwarder.pending) == MAX_AT_ONCE
    assert sum(len(flood.given_up) for flood in floods) == MAX_AT_ONCE // 5
    for flood in floods:
        assert flood.given_up == list(range(len(flood.given_up)))


def test_a_flood_takes_no_place_of_another() -> None:
    """A container alone may have all places; once it has as many as any other, its further questions are refused."""
    forwarder = _forwarder()
    first, second = Container(forwarder, "first"), Container(forwarder, "second")
    for number in range(MAX_AT_ONCE):
        assert first.ask(number) is not None
    made = [second.ask(number) for number in range(MAX_AT_ONCE)]
    under_way = [forward for forward in made if forward is not None]
    assert len(under_way) in (MAX_AT_ONCE // 2 - 1, MAX_AT_ONCE // 2)
    assert len(second.given_up) == len(made) - len(under_way)
    assert len(first.given_up) == len(under_way)


def test_dropped_questions_free_their_places() -> None:
    """What nobody waits for any more is not counted, once or twice dropped."""
    forwarder = _forwarder()
    container = Container(forwarder, "one")
    made = [container.ask() for _ in range(MAX_AT_ONCE)]
    for forward in made:
        assert forward is not None
        forward.drop()
        forward.drop()
    assert not forwarder.pending
    assert container.given_up == []
    assert Container(forwarder, "two").ask() is not None
