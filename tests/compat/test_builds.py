"""Images of our own contexts, against those that the dockerd of this machine makes: files, configuration, history."""

from pathlib import Path

import pytest

from tests.compat import builds, engines
from tests.compat.contexts import CONTEXTS

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize("name", CONTEXTS)
def test_builds_what_dockerd_builds(pair: tuple[engines.Engine, engines.Engine], tmp_path: Path, name: str) -> None:
    """Mode, owner, links, content, attributes and times of every file; what the image says; how many entries it has."""
    dockerfile, write = CONTEXTS[name]
    context = tmp_path / "context"
    context.mkdir()
    write(context)
    (context / "Dockerfile").write_text(dockerfile)
    made = []
    for engine, side in zip(pair, ("theirs", "ours"), strict=True):
        (tmp_path / side).mkdir()
        made.append(builds.Side(f"unix://{engine.socket}", tmp_path / side).build(context / "Dockerfile", "built"))
    theirs, ours = made
    assert not theirs.error, theirs.error
    assert not ours.error, ours.error
    assert list(builds.differences(ours, theirs)) == []
    assert len(ours.history) == len(theirs.history)
    assert ours.config or name == "archives"
    assert len(ours.tree) > 5
