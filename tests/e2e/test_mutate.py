"""One mutation put before one test, as `make mutate` does it."""

import pytest

from tests import mutation
from tests.mutations import found

pytestmark = pytest.mark.root

FILE = "src/wherry/network/dns_message.py"
TESTS = ["tests/unit/network/test_dns_replies.py"]


def test_only_the_judge_sees_a_mutation() -> None:
    """The tests fail over the changed line, pass without it, and the checkout stays as it is."""
    source = (mutation.ROOT / FILE).read_text()
    change = next(one for one in found(FILE, source) if one.after.lstrip().startswith("got != id_ "))
    changed = {FILE: change.applied(source)}
    assert mutation.run(changed, TESTS).startswith(f"{TESTS[0]}::test_a_reply")
    assert mutation.run(changed, [*TESTS, "--deselect", TESTS[0]]) == ""
    assert mutation.run({}, TESTS) == ""
    assert (mutation.ROOT / FILE).read_text() == source


def test_tests_that_do_not_end() -> None:
    """They are ended, in their own way, and that is told."""
    assert mutation.run({}, TESTS, limit=0.0) == "a test that hangs"
