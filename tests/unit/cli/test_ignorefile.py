"""`.dockerignore` as the command reads it: a stranger's checkout has written it."""

import os
from pathlib import Path

import pytest

from wherry.cli.commands.build import _ignore
from wherry.cli.failure import Failure


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    """The control of what follows; a Dockerfile's own file comes first, and nothing there is fine."""
    assert _ignore(str(tmp_path), "") == []
    (tmp_path / "rules").write_text("# none of these\nout\n")
    (tmp_path / ".dockerignore").symlink_to("rules")
    assert _ignore(str(tmp_path), "") == ["out"]
    (tmp_path / "D.dockerignore").write_text("own\n")
    assert _ignore(str(tmp_path), f"{tmp_path}/D") == ["own"]


@pytest.mark.parametrize("kind", ["device", "fifo", "directory", "huge"])
def test_attack_an_ignorefile_that_never_ends(tmp_path: Path, kind: str) -> None:
    """Refused at once, in words."""
    place = tmp_path / ".dockerignore"
    if kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        with open(place, "wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(Failure, match=r"\.dockerignore is (not a regular file|larger than 4 MiB)"):
        _ignore(str(tmp_path), "")
