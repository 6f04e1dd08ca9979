"""Messages with descriptors, sockets with long paths, and the monitor's records."""

import _socket
import json
import os
import stat
from pathlib import Path

import pytest

from wherry.errors import InvalidArgument
from wherry.linux.channel import MAX_FILE, MAX_MESSAGE, VERSION, Channel, pair
from wherry.linux.sockets import connect_at, listen_at
from wherry.monitor.record import KEPT_EXECS, Record


def test_message_and_descriptors_arrive() -> None:
    """A message brings its descriptors by name, close-on-exec."""
    left, right = pair()
    read, write = os.pipe()
    left.send({"op": "x", "text": "é"}, {"a": read, "b": write})
    received = right.receive()
    assert received is not None
    message, fds = received
    assert message == {"v": VERSION, "op": "x", "text": "é"}
    assert list(fds) == ["a", "b"]
    os.write(fds["b"], b"through")
    assert os.read(read, 10) == b"through"
    assert not os.get_inheritable(fds["a"])
    for fd in (read, write, *fds.values()):
        os.close(fd)
    left.close()
    assert right.receive() is None
    right.close()


def test_a_large_message_travels_in_a_file() -> None:
    """What a datagram cannot hold arrives all the same, with its descriptors; beyond 16 MiB it is refused unsent."""
    left, right = pair()
    read, write = os.pipe()
    for size in (MAX_MESSAGE - 60, MAX_MESSAGE, 40 * MAX_MESSAGE):
        left.send({"text": "x" * size}, {"a": write})
        received = right.receive()
        assert received is not None
        assert received[0] == {"v": VERSION, "text": "x" * size}
        assert list(received[1]) == ["a"]
        os.close(received[1]["a"])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidArgument, match="over the limit"):
        left.send({"text": "x" * MAX_FILE})
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(read)
    os.close(write)
    left.close()
    right.close()


def test_a_file_that_holds_no_message(tmp_path: Path) -> None:
    """A descriptor in a message's place that is a directory, or of something else, raises and is closed."""
    left, right = pair()
    (tmp_path / "text").write_text("nonsense")
    for path in (tmp_path / "text", tmp_path):
        fd = os.open(path, os.O_RDONLY)
        left._send(b'{"fds":["message"]}', {"message": fd})
        os.close(fd)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(InvalidArgument):
            right.receive()
        assert len(os.listdir("/proc/self/fd")) == before
    left.close()
    right.close()


@pytest.mark.parametrize("data", [b"nonsense", b"[]", b'{"fds":["a"]}', b"\xff"])
def test_what_is_no_message(data: bytes) -> None:
    """Datagrams that are no message raise, and the channel goes on."""
    left, right = pair()
    left.sock.send(data)
    with pytest.raises(InvalidArgument):
        right.receive()
    left.send({"op": "next"})
    assert right.receive() == ({"v": VERSION, "op": "next"}, {})
    left.close()
    right.close()


def test_socket_with_a_long_path(tmp_path: Path) -> None:
    """A socket far deeper than 107 bytes is bound privately, replaced when left over, and connected to."""
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    for _ in range(2):
        listener = listen_at(str(directory), "monitor.sock", _socket.SOCK_SEQPACKET)
        assert stat.S_IMODE((directory / "monitor.sock").stat().st_mode) == 0o600
        client = Channel(connect_at(str(directory), "monitor.sock", _socket.SOCK_SEQPACKET))
        client.close()
        listener.close()
    with pytest.raises(ConnectionRefusedError):
        connect_at(str(directory), "monitor.sock", _socket.SOCK_SEQPACKET)
    with pytest.raises(FileNotFoundError):
        connect_at(str(directory), "other.sock", _socket.SOCK_SEQPACKET)


def test_record_keeps_the_last_execs(tmp_path: Path) -> None:
    """state.json names running execs and the last ones that ended, not all there ever were."""
    record = Record(str(tmp_path), str(tmp_path), id="x", execs=[])
    record.exec_started("runs", 1, 1)
    for number in range(KEPT_EXECS + 10):
        record.exec_started(f"e{number}", 2, 2)
        record.exec_ended(f"e{number}", 0, number)
    execs = json.loads((tmp_path / "state.json").read_bytes())["execs"]
    assert len(execs) == KEPT_EXECS + 1
    assert execs[0] == {"exec_id": "runs", "pid": 1, "start_time": 1, "code": None}
    last = KEPT_EXECS + 9
    assert execs[-1] == {"exec_id": f"e{last}", "pid": 2, "start_time": 2, "code": 0, "finished_at": last}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_last_words_are_heard_though_the_peer_left_ours_unread() -> None:
    """A peer that ends with unread messages resets the connection; what it said before that still arrives."""
    ours, theirs = pair()
    try:
        theirs.send({"event": "exited"})
        ours.send({"op": "state"})
        theirs.close()
        assert ours.receive() == ({"v": VERSION, "event": "exited"}, {})
        assert ours.receive() is None
    finally:
        ours.close()
