"""The conversation between a launching parent and its child."""

from wherry.errors import HostileInput
from wherry.runtime.sync import CGROUP, ChildSide, ParentSide, pair, raised


def test_the_error_of_a_child_that_left_a_word_unread() -> None:
    """A child that fails before it has read what it was told resets the connection; its error arrives all the same."""
    left, right = pair()
    parent, child = ParentSide(left), ChildSide(right)
    try:
        parent.tell(CGROUP)
        assert child.fail(HostileInput("/etc/group is not a regular file"))
        right.close()
        message, fd = parent.receive()
        assert fd is None
        assert message is not None
        assert str(raised(message)) == "/etc/group is not a regular file"
        assert parent.receive() == (None, None)
    finally:
        parent.close()
        right.close()
