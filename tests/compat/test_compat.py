"""The rows that ask quickly, against the dockerd of this machine; `make compat` asks all of them."""

from collections import Counter

import pytest

from tests.compat import engines, pins
from tests.compat.commands import counted
from tests.compat.deviations import DEVIATIONS, OLDER
from tests.compat.run import compare_all
from tests.compat.table import ROWS


def test_the_table_is_sound() -> None:
    """No row is there twice, and every deviation is one of a row."""
    titles = Counter(row.title for row in ROWS)
    assert not [title for title, count in titles.items() if count > 1]
    assert not [title for title in (*DEVIATIONS, *OLDER) if title not in titles]
    pinned = pins.load()
    assert set(pinned.differences) == set(DEVIATIONS)
    assert not [title for title in pinned.statuses if title not in titles]


def test_each_command_has_its_rows() -> None:
    """No command of the docker command is left with less than five."""
    assert {name: count for name, count in counted(ROWS).items() if count < 5} == {}


@pytest.mark.root
@pytest.mark.slow
def test_does_what_dockerd_does(
    pair: tuple[engines.Engine, engines.Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes, words and shapes are dockerd's, or the table says why not."""
    verdicts, _ = compare_all(*pair, quick=True)
    told = capsys.readouterr().out
    pinned = pins.load()
    assert not [verdict.row.title for verdict in verdicts if verdict.wrong(pinned)], told
    assert len(verdicts) > 100
