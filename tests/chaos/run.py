"""The program: `python -m tests.chaos.run`, or `make chaos`. See `--help`."""

import argparse
import os
import random
import shutil
import socket
import sys
import time
from pathlib import Path

from tests import peers
from tests.chaos.journal import Journal
from tests.chaos.judge import Judge
from tests.chaos.killer import KINDS, Killer
from tests.chaos.users import SHARED_NETWORK, User
from tests.e2e.harness import EngineProcess

_JOIN_SECONDS = 300.0


def chaos(
    engine: EngineProcess,
    journal: Journal,
    *,
    seed: str,
    seconds: float,
    users: int,
    kinds: tuple[str, ...] = KINDS,
    pauses: tuple[float, float] = (0.1, 1.5),
) -> None:
    """Run chaos on a fresh engine with busybox, and judge it; the engine is stopped at the end.

    Args:
        engine: which answers.
        journal: gets what happens, and the findings.
        seed: the same one makes the same dice.
        seconds: how long commands are run.
        users: how many threads run them.
        kinds, pauses: of `Killer`.
    """
    engine.docker("network", "create", SHARED_NETWORK)
    files = engine.base / "files"
    files.mkdir()
    port = _free_port()
    killer = Killer(engine, seed, journal, kinds, pauses)
    people = [User(engine, number, seed, journal, killer, port, files) for number in range(users)]
    threads = [*(user.thread for user in people), killer.thread]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not killer.engine_gone:
        time.sleep(0.1)
    killer.over.set()
    killer.thread.join(_JOIN_SECONDS)
    for user in people:
        user.over.set()
    for user in people:
        user.thread.join(_JOIN_SECONDS)
    hanging = [thread.name for thread in threads if thread.is_alive()]
    if hanging:
        journal.find("chaos", f"{hanging} hang")
    journal.say("chaos", f"killed {dict(killer.counts)}; {journal.commands} commands, {journal.failures} failed")
    if killer.engine_gone or hanging:
        return
    judge = Judge(engine, people, journal, port)
    for step in (
        *(judge.inventory, judge.reachable, judge.quiet, judge.checked),
        *(judge.removed, judge.stopped, judge.logged),
    ):
        journal.say("judge", step.__name__)
        step()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def main() -> int:
    """Returns 1 when something was found."""
    parser = argparse.ArgumentParser(description="Random commands while the engine's processes are killed at random.")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("WHERRY_CHAOS_SECONDS", "180")))
    parser.add_argument("--seed", default=os.environ.get("WHERRY_SEED") or str(random.randrange(10**6)))
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--kill", default=",".join(KINDS), help="what is killed, with commas")
    parser.add_argument("--pauses", default="0.1,1.5", help="shortest and longest pause between two kills (seconds)")
    parser.add_argument("--log", type=Path, default=Path("chaos.log"), help="gets every command and kill")
    parser.add_argument("--quiet", action="store_true", help="show the findings only")
    args = parser.parse_args()
    peers.make()
    peers.prepare()
    journal = Journal(args.log, loud=not args.quiet)
    journal.say("chaos", f"seed {args.seed}, {args.seconds:.0f} s, {args.users} users")
    shortest, longest = (float(word) for word in args.pauses.split(","))
    engine = EngineProcess()
    try:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        chaos(
            engine,
            journal,
            seed=args.seed,
            seconds=args.seconds,
            users=args.users,
            kinds=tuple(args.kill.split(",")),
            pauses=(shortest, longest),
        )
    finally:
        if journal.findings:
            shutil.copy(engine.log, f"{args.log}.wherryd")
        engine.destroy()
        journal.close()
    print(f"seed {args.seed}: {len(journal.findings)} findings; the log is {args.log}")
    for finding in journal.findings:
        print(f"- {finding}")
    return 1 if journal.findings else 0


if __name__ == "__main__":
    sys.exit(main())
