"""Several server processes on one listening socket: a small parent that executes them and replaces what dies.

They share the root, where repositories are locked by flock(2) and every process sees a changed `index.json`, and a
board of what they counted (`board.py`).
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Final

from wherry.linux.process import PR_SET_PDEATHSIG, prctl
from wherry.registry.board import create

_FASTEST: Final = 1.0
_DEATHS: Final = 5


def supervise(arguments: list[str], sock: socket.socket, count: int) -> int:
    """Run `count` workers until SIGTERM or SIGINT.

    Args:
        arguments: of the command line, given to each worker as they are.
        sock: the listening socket that they inherit.
        count: how many.

    Returns:
        exit status: 0, or that of a worker which ended by itself within a second of its start, or the signal that
        killed several in a row so early.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    board = create(count)
    workers = [_Worker(arguments, sock, board, number) for number in range(count)]
    deaths = 0
    try:
        while True:
            select.select([read], [], [])
            got = set(os.read(read, 4096))
            if got & {signal.SIGTERM, signal.SIGINT}:
                return 0
            if signal.SIGHUP in got:
                for worker in workers:
                    worker.process.send_signal(signal.SIGHUP)
            for place, worker in enumerate(workers):
                status = worker.process.poll()
                if status is None:
                    continue
                quick = time.monotonic() - worker.began < _FASTEST
                deaths = deaths + 1 if quick else 0
                # one that says no by itself will say so again; one that somebody killed is replaced
                if quick and (status >= 0 or deaths > _DEATHS):
                    return abs(status) or 1
                _say("worker ended, another one is started", status=status)
                workers[place] = _Worker(arguments, sock, board, worker.number)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.wait()


def end_with_parent(parent: int) -> None:
    """In a worker: end, as with SIGTERM, when the supervisor is killed: nobody would end or replace it any more.

    Args:
        parent: the supervisor.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)  # it was killed before that


class _Worker:
    def __init__(self, arguments: list[str], sock: socket.socket, board: int, number: int) -> None:
        self.number = number
        self.began = time.monotonic()
        command = [sys.executable, "-m", "wherry.registry", *arguments]
        command += [f"--worker-socket={sock.fileno()}", f"--worker-board={board}", f"--worker-number={number}"]
        command += [f"--worker-parent={os.getpid()}"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        # until it has a handler, which is when `server.py` lets it through, a SIGHUP would end it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            self.process = subprocess.Popen(command, pass_fds=(sock.fileno(), board), env=environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(message: str, **facts: object) -> None:
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": "warning", "message": message, **facts}
    print(json.dumps(line), file=sys.stderr, flush=True)
