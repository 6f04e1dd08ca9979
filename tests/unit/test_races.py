"""What the races of the attack tests count."""

import itertools

import pytest
from tests.races import race


def test_a_race_goes_on_until_each_outcome_was_met() -> None:
    """The rare outcome is waited for; the others are counted."""
    found = itertools.chain(["directory"] * 7, ["link"])
    assert race(lambda: next(found), ["link"], rounds=3) == {"directory": 7, "link": 1}


def test_an_attempt_may_meet_both_or_nothing() -> None:
    """One run of a victim can look twice."""
    found = iter([[], ["a", "b"], ["a"]])
    assert race(lambda: next(found), ["a", "b"], rounds=3) == {"a": 2, "b": 1}


def test_a_race_whose_attacker_never_won_fails() -> None:
    """A victim that met the harmless outcome only was not attacked."""
    with pytest.raises(AssertionError, match=r"the race was not run: .*'directory'.*not \['link'\]"):
        race(lambda: "directory", ["link", "directory"], rounds=2, seconds=0.05)
