"""Whether `make test` would see a mistake: 60 one-line mutations of the sources, each judged by its tests.

    python -m tests.mutation [--seed N] [--count N] [--only N [--by TEST]] [--stages N] [--list] [--report]

A mutation is judged in stages, the tests that are most likely to see it first; a stage ends with its first failure.
It is *killed* if a test fails (or hangs) that passes without it, and *survives* if all of them pass. Nobody else sees
the mutated line: the tests run over an overlay of this checkout, in mount and PID namespaces of their own.

`--by` names a test file or one test of `make test`. It runs before the stages, and its failure kills the mutation as
theirs do. `--stages 0` runs nothing else.

What was found is appended to a file; the next run goes on from there. It holds for the bytes of the mutated file, and a
pass also for those of the tests. A survivor gets a test, or a reason in `mutation_reasons.json`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.mutations import Mutation, picked

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "mutation.jsonl"
REASONS = ROOT / "tests" / "mutation_reasons.json"
GOAL = 85  # percent of the mutations

# package -> directories of tests, one stage each
STAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "runtime": (
        ("tests/unit/runtime", "tests/unit/confine"),
        ("tests/runtime", "tests/runtime_cgroups", "tests/confine"),
        ("tests/monitor", "tests/build"),
        ("tests/e2e",),
    ),
    "snapshots": (
        ("tests/unit/snapshots", "tests/unit/images"),
        ("tests/snapshots",),
        ("tests/images", "tests/volumes"),
        ("tests/build", "tests/faults"),
        ("tests/e2e",),
    ),
    "containers": (
        ("tests/unit/containers", "tests/unit/confine", "tests/unit/building", "tests/unit/engine"),
        ("tests/e2e",),
        ("tests/volumes", "tests/faults", "tests/cli", "tests/compose"),
        ("tests/compat", "tests/names"),
    ),
    "network": (
        ("tests/unit/network",),
        ("tests/network",),
        ("tests/names",),
        ("tests/e2e", "tests/compose"),
    ),
    "builder": (
        ("tests/unit/builder", "tests/fuzz"),
        ("tests/build",),
        ("tests/faults", "tests/compat"),
        ("tests/e2e",),
    ),
}
_BROKEN = 5  # tests that may fail by themselves, and are left out
_HANGS = 3600  # seconds; no stage takes nearly so long

# Arguments: the checkout, an upper and a work directory, what to execute. The shell is process 1, which reaps.
_WITHIN = """
set -eu
root=$1 upper=$2 work=$3; shift 3
mount -t proc proc /proc
mount -t overlay -o "lowerdir=$root,upperdir=$upper,workdir=$work" mutation "$root"
cd "$root"
code=0
"$@" || code=$?
exit $code
"""


def stages(mutation: Mutation) -> list[list[str]]:
    """Files of tests, in stages; first of each those that name the module, none twice."""
    _, _, package, *inner = Path(mutation.file).with_suffix("").parts
    module = inner[-1] if inner[-1] != "__init__" else package
    done: set[Path] = set()
    made = []
    for directories in STAGES[package]:
        files = [path for one in directories for path in sorted((ROOT / one).rglob("test_*.py")) if path not in done]
        done.update(files)
        files.sort(key=lambda path: module not in path.read_text())
        made.append([str(path.relative_to(ROOT)) for path in files])
    return made


def digest(paths: Iterable[str]) -> str:
    """Of the names and contents of files of this checkout."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.encode() + b"\0" + hashlib.sha256((ROOT / path).read_bytes()).digest())
    return total.hexdigest()[:16]


@dataclass(slots=True)
class Verdict:
    """What is known of a mutation: `by` is the test that killed it; `passed` counts stages, `of` all of them."""

    mutation: Mutation
    by: str = ""
    passed: int = 0
    of: int = 0
    reason: str = ""

    @property
    def state(self) -> str:
        """`killed`, `survived`, or `open` while stages are left."""
        return "killed" if self.by else "survived" if self.passed == self.of else "open"


@dataclass(slots=True)
class Known:
    """What was found so far, in a file of JSON lines; and the reasons for what may survive."""

    path: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[dict[str, str]] = field(default_factory=list)

    def read(self) -> None:
        """A last line that a broken-off run left unfinished is passed over."""
        if self.path.exists():
            text = self.path.read_text()
            for line in text.splitlines():
                with contextlib.suppress(ValueError):
                    self.records.append(json.loads(line))
            if not text.endswith("\n"):
                with open(self.path, "a") as out:
                    out.write("\n")
        if REASONS.exists():
            self.reasons = json.loads(REASONS.read_text())

    def add(self, mutation: Mutation, tests: Sequence[str], by: str, seconds: float) -> None:
        """Write down how a stage ended; `by` is empty if all its tests passed."""
        record = {
            **_identity(mutation),
            "line": mutation.line,
            "source": digest([mutation.file]),
            "tests": digest(tests),
            "by": by,
            "seconds": round(seconds),
        }
        self.records.append(record)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as out:
            out.write(json.dumps(record) + "\n")

    def of(self, mutation: Mutation) -> Verdict:
        """What holds for the files as they are."""
        tests = stages(mutation)
        verdict = Verdict(mutation, of=len(tests))
        identity = _identity(mutation)
        source = digest([mutation.file])
        mine = [
            record
            for record in self.records
            if record["source"] == source and all(record[key] == value for key, value in identity.items())
        ]
        verdict.by = next((record["by"] for record in mine if record["by"]), "")
        passed = {record["tests"] for record in mine if not record["by"]}
        while verdict.passed < len(tests) and digest(tests[verdict.passed]) in passed:
            verdict.passed += 1
        for one in self.reasons:
            if all(one[key] == identity[key].strip() for key in ("file", "before", "after")):
                verdict.reason = one["reason"]
        return verdict


def _identity(mutation: Mutation) -> dict[str, str]:
    return {"file": mutation.file, "before": mutation.before, "after": mutation.after}


def report(verdicts: Sequence[Verdict]) -> tuple[str, bool]:
    """What to print of them, and whether it is good: none left open, the goal met, a reason for each survivor."""
    counts = Counter(verdict.state for verdict in verdicts)
    judged = counts["killed"] + counts["survived"]
    lines = []
    for number, verdict in enumerate(verdicts, 1):
        if verdict.state == "survived":
            lines += [f"{number}. survived: {verdict.mutation}", f"  reason: {verdict.reason or 'none yet'}"]
        elif verdict.state == "open" and verdict.passed:
            lines += [f"{number}. after {verdict.passed} of {verdict.of} stages: {verdict.mutation}"]
    share = 100 * counts["killed"] / judged if judged else 0.0
    lines.append(
        f"{len(verdicts)} mutations: {counts['killed']} killed, {counts['survived']} survived, {counts['open']} open; "
        f"{share:.0f} % of the judged killed (goal: {GOAL} %)"
    )
    unexplained = any(verdict.state == "survived" and not verdict.reason for verdict in verdicts)
    return "\n".join(lines), not counts["open"] and share >= GOAL and not unexplained


def failure(code: int, out: str) -> str:
    """The first test that failed in a run of pytest; empty if none did.

    Raises:
        RuntimeError: it did not come to run them.
    """
    if code in (0, 5):  # 5: all of them are for another run (marks)
        return ""
    for line in out.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("FAILED", "ERROR") and rest.startswith("tests/"):
            return rest.partition(" - ")[0]
    raise RuntimeError(f"pytest ended with {code}:\n{out[-3000:]}")


def run(changed: dict[str, str], tests: Sequence[str], limit: float = _HANGS) -> str:
    """Run tests over a checkout in which files (path -> content) are others.

    Returns:
        the first that failed, `a test that hangs`, or nothing.
    """
    with tempfile.TemporaryDirectory(prefix="mutation-") as base, tempfile.TemporaryFile("w+") as out:
        upper, work = Path(base, "upper"), Path(base, "work")
        work.mkdir()
        for path, content in changed.items():
            (upper / path).parent.mkdir(parents=True, exist_ok=True)
            (upper / path).write_text(content)
        upper.mkdir(exist_ok=True)
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests]
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _WITHIN, "mutation"),
                *(str(ROOT), str(upper), str(work), *pytest),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "CI": "", "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return "a test that hangs"
        finally:
            if process.poll() is None:
                _end(process)
        out.seek(0)
        return failure(code, out.read())


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a run early: its fixtures give back what they made on this machine; what hangs is killed."""
    os.killpg(process.pid, signal.SIGTERM)  # unshare and its shell, process 1, do not heed it
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()  # and all that is in the namespace, by --kill-child
        process.wait()


def test_file(test: str) -> str:
    """The path of a test's file below the checkout; `test` is that path, or a node ID of pytest in that file.

    Raises:
        ValueError: `make test` has no such file.
    """
    path = test.partition("::")[0]
    below = Path(path)
    if (
        below.parts[:1] != ("tests",)
        or ".." in below.parts
        or not below.match("test_*.py")
        or not (ROOT / path).is_file()
    ):
        raise ValueError(f"{test}: not a test of `make test`; name tests/…/test_*.py, or one test in it with ::")
    return path


def judge_by(mutation: Mutation, known: Known, test: str) -> bool:
    """Run one test, or one file of tests, over the mutation, and record it as killed if the test sees it.

    Returns:
        whether it is killed: the test fails with the mutation, and passes without it. Otherwise nothing is recorded.

    Raises:
        ValueError: `make test` has no such test.
        RuntimeError: pytest ran no test.
    """
    file = test_file(test)
    began = time.monotonic()
    by = run({mutation.file: mutation.applied((ROOT / mutation.file).read_text())}, [test])
    if not by:
        print(f"not seen by {test}", flush=True)
        return False
    if "::" in by and run({}, [by]):
        print(f"left out: {by} fails without any mutation, too", flush=True)
        return False
    known.add(mutation, [file], by, time.monotonic() - began)
    return True


def judge(mutation: Mutation, known: Known, through: int) -> Verdict:
    """Run the stages that are left, `through` at most, until one fails; a failure is tried without the mutation."""
    source = (ROOT / mutation.file).read_text()
    tests = stages(mutation)
    broken: list[str] = []
    while (verdict := known.of(mutation)).state == "open" and verdict.passed < through:
        stage = tests[verdict.passed]
        began = time.monotonic()
        changed = {mutation.file: mutation.applied(source)}
        while "::" in (by := run(changed, [*stage, *(f"--deselect={test}" for test in broken)])) and run({}, [by]):
            print(f"left out: {by} fails without any mutation, too", flush=True)
            broken.append(by)
            if len(broken) > _BROKEN:
                raise RuntimeError(f"{len(broken)} tests fail without any mutation: nothing can be said")
        known.add(mutation, stage, by, time.monotonic() - began)
    return verdict


def main(words: Sequence[str]) -> int:
    """The command; 1 if the goal is missed, a mutation is open or a survivor has no reason."""
    options = argparse.ArgumentParser(prog="mutate", description=__doc__.partition("\n")[0])
    options.add_argument("--seed", type=int, default=1, help="which mutations")
    options.add_argument("--count", type=int, default=60, help="how many")
    options.add_argument("--only", type=int, action="append", metavar="N", help="judge the Nth only")
    options.add_argument("--by", metavar="TEST", help="with one --only: run this test or file of tests first")
    options.add_argument("--stages", type=int, default=99, metavar="N", help="no more than the first N stages of tests")
    options.add_argument("--results", type=Path, default=RESULTS, help="the file of what was found")
    options.add_argument("--list", action="store_true", help="print the mutations, and judge none")
    options.add_argument("--report", action="store_true", help="print what was found, and judge none")
    given = options.parse_args(words)
    if given.by:
        if len(given.only or ()) != 1:
            options.error("--by needs exactly one --only")
        try:
            test_file(given.by)
        except ValueError as error:
            options.error(str(error))
    mutations = picked(ROOT, [f"src/wherry/{package}" for package in STAGES], given.seed, given.count)
    known = Known(given.results)
    known.read()
    if given.list:
        for number, mutation in enumerate(mutations, 1):
            print(f"{number}. {known.of(mutation).state}: {mutation}")
        return 0
    if not given.report:
        if os.geteuid() != 0:
            print("mutate: needs root", file=sys.stderr)
            return 2
        for number, mutation in enumerate(mutations, 1):
            if given.only and number not in given.only:
                continue
            verdict = known.of(mutation)
            if verdict.state == "open" and (given.by or verdict.passed < given.stages):
                try:
                    if given.by:
                        judge_by(mutation, known, given.by)
                    verdict = judge(mutation, known, given.stages)
                except RuntimeError as error:
                    print(f"{number}. {mutation}\n  {error}", flush=True)
                    continue
                told = verdict.state if verdict.state != "open" else f"passed {verdict.passed} of {verdict.of} stages"
                print(f"{number}. {told} {verdict.by}: {mutation}", flush=True)
    text, good = report([known.of(mutation) for mutation in mutations])
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
