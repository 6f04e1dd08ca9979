"""An engine in a container hands controllers down although somebody comes into the container's top meanwhile."""

import errno

import pytest

from wherry.engine import placement
from wherry.errors import KernelError


class Top:
    """A top that somebody enters again and again, after each time that it was emptied."""

    def __init__(self, comers: int, error: int = errno.EBUSY) -> None:
        self.comers = comers
        self.error = error
        self.emptied = 0
        self.tries = 0

    def make_room(self) -> None:
        """Empty it."""
        self.emptied += 1

    def create(self, _resources: None) -> None:
        """Refuse as the kernel does, while there is somebody to come."""
        self.tries += 1
        if self.comers:
            self.comers -= 1
            raise KernelError("delegate cgroup controllers", self.error)


def _create(top: Top, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(placement, "_make_room", top.make_room)
    patch.setattr(placement, "_PAUSE", 0.0)
    placement.create_with_room(top)  # type: ignore[arg-type]


def test_who_comes_after_room_was_made_is_moved_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command that `exec` runs in the container while the engine begins."""
    top = Top(comers=7)
    _create(top, monkeypatch)
    assert (top.tries, top.emptied) == (8, 7)


def test_who_cannot_be_moved_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time for it, in the kernel's words."""
    monkeypatch.setattr(placement, "_ROOM_WITHIN", 0.05)
    top = Top(comers=1 << 60)
    with pytest.raises(KernelError, match="delegate"):
        _create(top, monkeypatch)
    assert top.tries > 1


def test_another_error_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a process in the top goes away by itself."""
    top = Top(comers=1, error=errno.EACCES)
    with pytest.raises(KernelError):
        _create(top, monkeypatch)
    assert top.tries == 1
