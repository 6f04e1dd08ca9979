"""Compare wherryd with dockerd, row by row: `make compat`.

    run.py [--peer SOCKET] [--ours SOCKET] [--topic NAME] [--only WORDS] [--quick] [--all]

Both engines get the same docker command; exit code, stdout and stderr must be the same (ids, times and addresses
aside), or the row says why not. Exits 1 when a row is not as the table says.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests import peers
from tests.compat import compare, engines
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
        )
    same = sum(v.difference is None and v.ok for v in verdicts)
    declared = sum(v.difference is not None and v.ok for v in verdicts)
    wrong = [v for v in verdicts if not v.ok]
    print(f"\n{len(verdicts)} rows against dockerd {'.'.join(map(str, docker.version))}: {same} the same,", end=" ")
    print(f"{declared} different as declared, {len(wrong)} not as the table says; {passed_over} not for this dockerd")
    fails = sum(v.fails for v in verdicts)
    codes = sum(v.codes for v in verdicts if v.row.request is None)
    least = min((count, name) for name, count in counted(ROWS).items())
    print(f"{fails} rows that must fail; exit codes differ in {codes}; least asked: {least[1]}, {least[0]} rows")
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
) -> tuple[list[compare.Verdict], int]:
    """Compare each row of the table, printing what is not as it says; returns verdicts and the number passed over.

    Args:
        rows: what is asked.
        only: rows whose title contains it.
        quick: only what half a minute is enough for.
        deviations: print also what differs as declared.
    """
    verdicts: list[compare.Verdict] = []
    passed_over = 0
    files = _sees_our_files(docker)
    with ThreadPoolExecutor(2) as pool:
        for index, row in enumerate(rows):
            if only not in row.title or (quick and not _in_subset(row, index)):
                continue
            older = docker.version < compare.REFERENCE and row.title in OLDER
            if older or row.since > docker.version or (row.files and not files):
                passed_over += 1
                continue
            before = time.monotonic()
            verdict = compare.run(row, docker, wherryd, pool)
            verdicts.append(verdict)
            took = time.monotonic() - before
            if not verdict.ok:
                reason = verdict.difference or f"    the same, though declared different: {row.deviation}"
                print(f"DIFFERENT {row.title}  ({took:.1f} s)\n{reason}", flush=True)
            elif deviations and verdict.difference:
                print(f"declared  {row.title}: {row.deviation}\n{verdict.difference}", flush=True)
    return verdicts, passed_over


def _in_subset(row: Row, index: int) -> bool:
    """Raw requests, every sixth row that only looks, every fourteenth of the others: starting containers takes time."""
    return row.request is not None or index % (6 if row.reads else 14) == 0


def _sees_our_files(docker: engines.Engine) -> bool:
    return docker.shell("docker run --rm -v $DIR:/d busybox test -e /d/busybox.tar")[0] == 0


if __name__ == "__main__":
    sys.exit(main())
