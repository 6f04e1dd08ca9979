"""A set of places that walks through a text, one character after the other: no step is ever taken back.

What a set of places comes to at a character is remembered, so that a pattern that is asked often costs one look into a
dictionary for each character. What is remembered is bounded; more than that is worked out anew.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

_STATES = 64
_STEPS = 512


class State(dict[str, "State"]):
    """One set of places: character -> the next.

    Attributes:
        places: what the pattern's own code makes of it.
        accepts: whether a text may end here.
    """

    __slots__ = ("accepts", "places")

    def __init__(self, places: "Hashable", *, accepts: bool) -> None:
        super().__init__()
        self.places = places
        self.accepts = accepts


class Automaton:
    """What both languages share. A subclass says where it begins and what a step is.

    Args:
        first: the set of places before the first character; a set that is false fits nothing any more.
    """

    def __init__(self, first: "Hashable") -> None:
        self._origin = first
        self._forget()

    def advance(self, places: "Hashable", char: str) -> "Hashable":
        """The places behind a character."""
        raise NotImplementedError

    def accepts(self, places: "Hashable") -> bool:
        """Whether a text may end there."""
        raise NotImplementedError

    @property
    def first(self) -> State:
        """Where every text begins."""
        return self._first

    def step(self, state: State, char: str) -> State:
        """The state behind a character, worked out and remembered."""
        places = self.advance(state.places, char)
        if self._steps >= _STEPS or len(self._states) >= _STATES:
            self._forget()
        found = self._states.get(places)
        if found is None:
            found = self._states[places] = State(places, accepts=self.accepts(places))
        state[char] = found
        self._steps += 1
        return found

    def _forget(self) -> None:
        for state in getattr(self, "_states", {}).values():
            state.clear()
        self._first = State(self._origin, accepts=self.accepts(self._origin))
        self._states: dict[Hashable, State] = {self._origin: self._first}
        self._steps = 0
