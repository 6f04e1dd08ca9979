"""Places of uploads: found again by the next engine, and forgotten when they are done, old, or too many."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.store import uploads
from wherry.store.database import Database, open_database
from wherry.store.uploads import Uploads

KEY = ("registry.example:5000", "team/app", "sha256:" + "1" * 64)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Of a database."""
    return f"{tmp_path}/wherry.db"


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    """Open."""
    made = open_database(path)
    yield made
    made.close()


def again(database: Database, path: str) -> Uploads:
    """What the next engine finds."""
    database.close()
    other = open_database(path)
    found = Uploads(other)
    other.close()
    return found


def test_over_a_restart(database: Database, path: str) -> None:
    """The last place counts, and is there again."""
    kept = Uploads(database)
    assert kept.find(KEY) is None
    kept.put(KEY, "http://registry.example:5000/v2/team/app/blobs/uploads/1?_state=a")
    kept.put(KEY, "http://registry.example:5000/v2/team/app/blobs/uploads/1?_state=b")
    assert (again(database, path).find(KEY) or "").endswith("=b")


def test_done(database: Database, path: str) -> None:
    """What was dropped stays so; dropping what is not there does nothing."""
    kept = Uploads(database)
    kept.put(KEY, "http://x/1")
    kept.drop(KEY)
    kept.drop(KEY)
    assert kept.find(KEY) is None
    assert again(database, path).find(KEY) is None


def test_old(database: Database, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry has thrown it away by then."""
    Uploads(database).put(KEY, "http://x/1")
    monkeypatch.setattr(uploads, "KEPT_SECONDS", -1)
    assert again(database, path).find(KEY) is None
    rows = open_database(path)
    assert rows.read("SELECT count(*) FROM uploads") == [(0,)]
    rows.close()


def test_too_many(database: Database, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that nobody wrote to for the longest time goes."""
    monkeypatch.setattr(uploads, "LIMIT", 2)
    kept = Uploads(database)
    for number in (1, 2, 1, 3):
        kept.put((*KEY[:2], str(number)), f"http://x/{number}")
    found = again(database, path)
    assert [found.find((*KEY[:2], str(number))) for number in (1, 2, 3)] == ["http://x/1", None, "http://x/3"]


def test_a_closed_database(database: Database) -> None:
    """An engine that ends does not fail for it."""
    kept = Uploads(database)
    database.close()
    kept.put(KEY, "http://x/1")
