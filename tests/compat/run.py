"""Compare wherryd with dockerd, row by row: `make compat`.

    run.py [--peer SOCKET] [--ours SOCKET] [--topic NAME] [--only WORDS] [--quick] [--all] [--pin]

Both engines get the same docker command; exit code, stdout and stderr must be the same (ids, times and addresses
aside), or the row says why not and `pins.json` says how. Exits 1 when a row is not as the table says. A third engine
refuses everything; a row that agrees with it could not fail.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests import peers
from tests.cgroups import controllers
from tests.compat import compare, engines, pins
from tests.compat import deaf as deafness
from tests.compat.commands import counted
from tests.compat.deviations import OLDER
from tests.compat.row import Row
from tests.compat.table import ROWS, TOPICS

MUST_FAIL = 100
SHARE = 0.03


def main() -> int:
    """Run the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="compare wherryd with dockerd, row by row")
    parser.add_argument(
        "--peer",
        default=os.environ.get("WHERRY_PEER") or None,
        help="socket of a dockerd that runs (default: $WHERRY_PEER, else one is started)",
    )
    parser.add_argument("--ours", help="socket of a wherryd that runs (default: start one)")
    parser.add_argument("--topic", choices=sorted(TOPICS), help="only the rows of tests/compat/rows_NAME.py")
    parser.add_argument("--only", default="", help="only rows that contain this")
    parser.add_argument("--quick", action="store_true", help="the subset that the test suite runs")
    parser.add_argument("--all", action="store_true", help="also show declared deviations")
    parser.add_argument("--pin", action="store_true", help="write what differs as declared to pins.json")
    options = parser.parse_args()
    peers.make()
    peers.prepare()
    with engines.both(options.peer, options.ours) as (docker, wherryd):
        verdicts, passed_over = compare_all(
            docker,
            wherryd,
            TOPICS[options.topic] if options.topic else ROWS,
            options.only,
            quick=options.quick,
            deviations=options.all,
            pin=options.pin,
        )
    pinned = pins.load()
    wrong = [v for v in verdicts if v.wrong(pinned)]
    same = sum(v.difference is None and not v.unasked and not v.wrong(pinned) for v in verdicts)
    declared = sum(v.difference is not None and not v.wrong(pinned) for v in verdicts)
    print(f"\n{len(verdicts)} rows against dockerd {'.'.join(map(str, docker.version))}: {same} the same,", end=" ")
    print(f"{declared} different as declared, {len(wrong)} not as the table says", end="; ")
    print(f"{passed_over} not for this dockerd or host")
    fails = sum(v.fails for v in verdicts)
    codes = sum(v.codes for v in verdicts if v.row.request is None)
    least = min((count, name) for name, count in counted(ROWS).items())
    print(f"{fails} rows that must fail; exit codes differ in {codes}; least asked: {least[1]}, {least[0]} rows")
    statuses = Counter(v.status for v in verdicts if v.status)
    shown = ", ".join(f"{count} with {status}" for status, count in sorted(statuses.items()))
    print(f"{sum(statuses.values())} of dockerd's 500s are answered otherwise here ({shown or 'none'});", end=" ")
    print(f"{sum(v.unasked for v in verdicts)} more rows are answered by the docker command alone")
    whole = not (options.only or options.quick or options.topic)
    if whole and (fails < MUST_FAIL or declared > SHARE * len(verdicts)):
        print(f"at least {MUST_FAIL} rows must fail, and at most {SHARE:.0%} may be different")
        return 1
    return 1 if wrong else 0


def compare_all(
    docker: engines.Engine,
    wherryd: engines.Engine,
    rows: list[Row] = ROWS,
    only: str = "",
    *,
    quick: bool = False,
    deviations: bool = False,
    pin: bool = False,
) -> tuple[list[compare.Verdict], int]:
    """Compare each row of the table, printing what is not as it says; returns verdicts and the number passed over.

    Args:
        rows: what is asked.
        only: rows whose title contains it.
        quick: only what half a minute is enough for.
        deviations: print also what differs as declared.
        pin: write what differs as declared, instead of holding it against what is pinned.
    """
    verdicts: list[compare.Verdict] = []
    passed_over = 0
    files = _sees_our_files(docker)
    pinned = pins.load()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-deaf-")))
        deaf = stack.enter_context(deafness.deaf(base, docker))
        pool = stack.enter_context(ThreadPoolExecutor(3))
        for index, row in enumerate(rows):
            if only not in row.title or (quick and not _in_subset(row, index)):
                continue
            older = docker.version < compare.REFERENCE and row.title in OLDER
            lacking = not controllers().issuperset(row.controllers)
            if older or lacking or row.since > docker.version or (row.files and not files):
                passed_over += 1
                continue
            before = time.monotonic()
            verdict = compare.run(row, docker, wherryd, pool, deaf)
            verdicts.append(verdict)
            took = time.monotonic() - before
            if pin:
                _pin(verdict, pinned)
            reason = verdict.wrong(pinned)
            if reason:
                print(f"DIFFERENT {row.title}  ({took:.1f} s)\n{reason}", flush=True)
            elif deviations and verdict.difference:
                print(f"declared  {row.title}: {row.deviation}\n{verdict.difference}", flush=True)
    if pin:
        titles = {row.title for row in ROWS}
        for kept in pinned:
            for title in [title for title in kept if title not in titles]:
                del kept[title]
        pins.save(pinned)
    return verdicts, passed_over


def _pin(verdict: compare.Verdict, pinned: pins.Pins) -> None:
    """Take over how a declared row differs, and the status here of one that dockerd answers with 500."""
    title = verdict.row.title
    pinned.differences.pop(title, None)
    pinned.statuses.pop(title, None)
    if verdict.row.deviation and verdict.differences:
        pinned.differences[title] = verdict.differences
    if verdict.status:
        pinned.statuses[title] = verdict.status


def _in_subset(row: Row, index: int) -> bool:
    """Raw requests, every sixth row that only looks, every fourteenth of the others: starting containers takes time."""
    return row.request is not None or index % (6 if row.reads else 14) == 0


def _sees_our_files(docker: engines.Engine) -> bool:
    return docker.shell("docker run --rm -v $DIR:/d busybox test -e /d/busybox.tar")[0] == 0


if __name__ == "__main__":
    sys.exit(main())
