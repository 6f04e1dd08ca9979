"""How one-line mutations are found, picked and told of; `make mutate` judges them."""

import json
from pathlib import Path

import pytest
from tests import mutation, mutations
from tests.mutations import Mutation

SOURCE = '''\
"""A module."""

SIZE = 4


class Thing:
    __slots__ = ("a" if SIZE > 3 else "b",)
    limit: "int | None" = None

    def grown(self, by: int = 1) -> bool:
        """By so much."""
        if by > 2 and not self.limit or by is None:
            self.reset(f"{by > 1}")
            log.info("reset %d", 7)
        return by in (
            2,
            3,
        )

    async def empty(self) -> str:
        await self.closed()
        if self.limit:
            return "é" + self.name == "x"
        return ""
'''


def changed(kind: str) -> set[tuple[int, str]]:
    """Line and new text of each mutation of a kind."""
    return {(one.line, one.after.strip()) for one in mutations.found("a.py", SOURCE) if one.kind == kind}


def test_what_is_found() -> None:
    """Each kind, on its line; nothing in annotations, `__slots__`, f-strings and lines of the log."""
    condition = "if by > 2 and not self.limit or by is None:"
    assert changed("comparison") == {
        (12, condition.replace(">", "<=")),
        (12, condition.replace("is None", "is not None")),
        (15, "return by not in ("),
        (23, 'return "é" + self.name != "x"'),
    }
    assert changed("logic") == {(12, condition.replace("and", "or")), (12, condition.replace(" or ", " and "))}
    assert changed("negation") == {(12, condition.replace("not ", ""))}
    assert changed("return") == {(23, "return None")}
    assert changed("call") == {(13, "pass"), (21, "pass")}
    assert changed("truth") == set()
    assert {line for line, _ in changed("constant")} == {3, 10, 12, 16, 17}
    assert {text for line, text in changed("constant") if line == 3} == {"SIZE = 3", "SIZE = 5"}


def test_a_mutation_is_one_line_that_compiles() -> None:
    """All that are found in a real source compile, differ in one line, and are not the same program."""
    file = "src/wherry/network/ipam.py"
    source = (mutation.ROOT / file).read_text()
    found = mutations.found(file, source)
    assert len(found) > 50
    for one in found[::5]:
        assert mutations.real(one, source), one
        lines = zip(source.splitlines(), one.applied(source).splitlines(), strict=True)
        assert [number for number, (old, new) in enumerate(lines, 1) if old != new] == [one.line]
    moved = "\n" + source
    with pytest.raises(ValueError, match="is another line now"):
        found[0].applied(moved)


def test_picks_follow_from_the_seed(tmp_path: Path) -> None:
    """The same seed picks the same, shared among packages and kinds, no line twice; an added file moves little."""
    for package in ("one", "two"):
        (tmp_path / package).mkdir()
        for number in range(6):
            (tmp_path / package / f"m{number}.py").write_text(SOURCE.replace("SIZE", f"SIZE{number}"))
    picks = mutations.picked(tmp_path, ("one", "two"), 1, 13)
    assert picks == mutations.picked(tmp_path, ("one", "two"), 1, 13)
    assert picks != mutations.picked(tmp_path, ("one", "two"), 2, 13)
    assert [sum(pick.file.startswith(package) for pick in picks) for package in ("one", "two")] == [7, 6]
    assert len({(pick.file, pick.line) for pick in picks}) == 13
    assert {pick.kind for pick in picks} == set(mutations.KINDS) - {"truth"}
    (tmp_path / "two" / "added.py").write_text("X = 1\n")
    again = mutations.picked(tmp_path, ("one", "two"), 1, 13)
    assert len(set(picks) & set(again)) >= 11


def test_every_picked_mutation_has_tests() -> None:
    """The tests of a mutation are in stages, none of them empty, no file twice; those that name the module first."""
    made = mutation.stages(Mutation("src/wherry/network/ipam.py", 1, "call", "", ""))
    files = [file for stage in made for file in stage]
    assert all(made) and len(files) == len(set(files))
    assert made[0][0] == "tests/unit/network/test_network_ipam.py"
    for package, stages in mutation.STAGES.items():
        assert (mutation.ROOT / "src/wherry" / package).is_dir()
        for directory in (one for stage in stages for one in stage):
            assert any((mutation.ROOT / directory).rglob("test_*.py")), directory


def test_what_pytest_says() -> None:
    """The first failure is what killed; none at all is a pass; what came to run no test is neither."""
    out = "..F\nFAILED tests/a.py::test_b[x y] - assert 1 == 2 - 3\n1 failed in 0.1s\n"
    assert mutation.failure(1, out) == "tests/a.py::test_b[x y]"
    assert mutation.failure(2, "ERROR tests/a.py - NameError\n") == "tests/a.py"
    assert mutation.failure(0, "3 passed\n") == mutation.failure(5, "no tests ran\n") == ""
    with pytest.raises(RuntimeError, match="ended with 4"):
        mutation.failure(4, "ERROR: file or directory not found: tests/b.py\n")


@pytest.fixture
def one_mutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mutation:
    """The only mutation of a checkout that has one module and two tests."""
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "REASONS", tmp_path / "reasons.json")
    monkeypatch.setattr(mutation, "STAGES", {"network": (("tests/unit",), ("tests/e2e",))})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for path in ("src/wherry/network/a.py", "tests/unit/test_a.py", "tests/e2e/test_b.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("X = 1\n")
    return Mutation("src/wherry/network/a.py", 1, "constant", "X = 1", "X = 2")


@pytest.mark.parametrize(
    ("fails_mutated", "fails_unchanged", "state"),
    [(True, False, "killed"), (True, True, "open"), (False, False, "open")],
)
def test_one_test_is_tried_first(
    one_mutation: Mutation,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fails_mutated: bool,
    fails_unchanged: bool,
    state: str,
) -> None:
    """It kills if it fails with the mutation and passes without; otherwise nothing is recorded."""
    test = "tests/e2e/test_b.py::test_x"
    ran: list[tuple[bool, list[str]]] = []

    def run(changed: dict[str, str], tests: list[str]) -> str:
        ran.append((bool(changed), tests))
        assert changed in ({}, {one_mutation.file: "X = 2\n"})
        return test if (fails_mutated if changed else fails_unchanged) else ""

    monkeypatch.setattr(mutation, "run", run)
    monkeypatch.setattr(mutation, "picked", lambda *_: [one_mutation])
    results = tmp_path / "results"
    words = ["--results", str(results), "--only", "1", "--by", test, "--stages", "0"]
    assert mutation.main(words) == (0 if state == "killed" else 1)
    assert ran[0] == (True, [test])
    assert all(tests == [test] for _, tests in ran)
    known = mutation.Known(results)
    known.read()
    verdict = known.of(one_mutation)
    assert verdict.state == state
    assert verdict.by == (test if state == "killed" else "")
    assert len(known.records) == (state == "killed")


@pytest.mark.parametrize(
    "words",
    [
        ["--by", "tests/unit/test_a.py"],
        ["--by", "tests/unit/test_a.py", "--only", "1", "--only", "2"],
        ["--by", "tests/unit/test_none.py", "--only", "1"],
        ["--by", "src/wherry/network/a.py", "--only", "1"],
        ["--by", "tests/../src/wherry/network/a.py", "--only", "1"],
    ],
)
def test_what_cannot_be_tried_first(one_mutation: Mutation, words: list[str]) -> None:
    """One mutation is tried by one test of `make test`, or the command is refused."""
    with pytest.raises(SystemExit, match="2"):
        mutation.main(words)


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found is read again, holds for these bytes only, and survivors are shown with their reasons."""
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "REASONS", tmp_path / "reasons.json")
    monkeypatch.setattr(mutation, "STAGES", {"network": (("tests/unit",), ("tests/e2e",))})
    for path in ("src/wherry/network/a.py", "tests/unit/test_a.py", "tests/e2e/test_b.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("X = 1\nY = 1\nZ = 1\n")
    first, second, third = (
        Mutation("src/wherry/network/a.py", line, "constant", f"{name} = 1", f"{name} = 2")
        for line, name in enumerate("XYZ", 1)
    )
    known = mutation.Known(tmp_path / "build" / "results")
    unit, e2e = mutation.stages(first)
    known.add(first, unit, "tests/unit/test_a.py::test_x", 1)
    known.add(second, unit, "", 1)
    known.add(second, e2e, "", 1)
    known.add(third, unit, "", 1)
    with open(known.path, "a") as out:
        out.write('{"file": "src/wh')
    known = mutation.Known(known.path)
    known.read()
    verdicts = [known.of(one) for one in (first, second, third)]
    assert [verdict.state for verdict in verdicts] == ["killed", "survived", "open"]
    text, good = mutation.report(verdicts)
    assert "  - Y = 1\n  + Y = 2\n  reason: none yet\n3. after 1 of 2 stages: " in text
    assert text.endswith("3 mutations: 1 killed, 1 survived, 1 open; 50 % of the judged killed (goal: 85 %)")
    assert not good
    assert mutation.report(verdicts[:1])[1]
    # a reason is one for this change of this line
    reason = {"file": second.file, "before": "Y = 1", "after": "Y = 2", "reason": "nobody reads Y"}
    mutation.REASONS.write_text(json.dumps([reason]))
    known.read()
    assert known.of(second).reason == "nobody reads Y"
    assert known.of(third).reason == ""
    # other tests: what passed is to be judged anew; another source: all of it
    (tmp_path / "tests/e2e/test_b.py").write_text("W = 1\n")
    assert [known.of(one).state for one in (first, second)] == ["killed", "open"]
    (tmp_path / first.file).write_text("X = 1\nY = 1\nZ = 3\n")
    assert known.of(first).state == "open"


def test_reasons_are_for_lines_that_are_there() -> None:
    """Each reason is of a line of the sources, and says something."""
    for one in json.loads(mutation.REASONS.read_text()):
        lines = [line.strip() for line in (mutation.ROOT / one["file"]).read_text().splitlines()]
        assert one["before"] in lines, one
        assert len(one["reason"]) > 20
