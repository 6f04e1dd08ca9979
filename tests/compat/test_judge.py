"""How a row is judged: what cannot fail is found, and what differs as declared is held. No engine is needed."""

from tests.compat.compare import NOT_RUN, Result, judge
from tests.compat.pins import Pins, difference
from tests.compat.row import Row, call

ROW = Row("docker start nope")
MISSING = Result(1, "", "Error response from daemon: No such container: nope")
DEAF = Result(1, "", "Error response from daemon: what?")
NOTHING = Pins({}, {})


def test_the_same_is_right_and_another_word_is_wrong() -> None:
    """Codes, output and words are compared."""
    assert not judge(ROW, MISSING, MISSING, DEAF).wrong(NOTHING)
    for found in (DEAF, MISSING._replace(code=125), MISSING._replace(out="nope")):
        assert judge(ROW, MISSING, found, DEAF).wrong(NOTHING)


def test_a_row_that_cannot_fail_is_wrong() -> None:
    """It agrees with an engine that refuses everything: its code is lost, or what it says is ignored."""
    lost = Result(0, "", "")
    assert "cannot fail" in judge(ROW, lost, lost, lost).wrong(NOTHING)
    ignoring = Row("docker start nope", ignore=("stderr",))
    assert "cannot fail" in judge(ignoring, MISSING, MISSING, DEAF).wrong(NOTHING)
    verdict = judge(ROW, lost, lost, lost, asked=False)
    assert verdict.unasked  # the docker command answers by itself: not one of the engine's rows
    assert not verdict.wrong(NOTHING)


def test_a_row_whose_setup_fails_is_wrong() -> None:
    """Both engines fail alike: nothing was compared."""
    failed = Result(NOT_RUN, "", "setup failed: no")
    assert "not run" in judge(ROW, failed, failed, DEAF).wrong(NOTHING)


def test_a_declared_difference_is_the_pinned_one() -> None:
    """Another difference, none, and one that nobody has pinned are wrong."""
    declared = ROW._replace(deviation="other words")
    ours = MISSING._replace(err="Error response from daemon: container nope is missing")
    pinned = Pins({declared.title: difference("stderr", MISSING.err, ours.err)}, {})
    assert not judge(declared, MISSING, ours, DEAF).wrong(pinned)
    assert "not pinned" in judge(declared, MISSING, ours, DEAF).wrong(NOTHING)
    assert "pinned:" in judge(declared, MISSING, ours._replace(err="other"), DEAF).wrong(pinned)
    assert "pinned:" in judge(declared, MISSING, ours._replace(code=125), DEAF).wrong(pinned)
    assert "the same" in judge(declared, MISSING, MISSING, DEAF).wrong(pinned)


def test_a_500_of_dockerd_has_a_pinned_status_here() -> None:
    """What dockerd calls its own failure is a 4xx here, always the same one; the message is compared."""
    row = call("POST", "/v/x")
    theirs, ours = Result(500, '{"message":"bad"}', ""), Result(400, '{"message":"bad"}', "")
    pinned = Pins({}, {row.title: 400})
    assert not judge(row, theirs, ours, None).wrong(pinned)
    assert judge(row, theirs, ours, None).status == 400
    assert judge(row, theirs, ours, None).wrong(NOTHING)
    assert judge(row, theirs, ours._replace(code=404), None).wrong(pinned)
    assert judge(row, theirs, ours._replace(out='{"message":"other"}'), None).wrong(pinned)
    assert judge(row, theirs, theirs, None).wrong(pinned)
