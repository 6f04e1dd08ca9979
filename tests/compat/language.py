"""The Dockerfile language against the cases of its other readers.

    WHERRY_BUILDKIT=DIR [WHERRY_PATTERNMATCHER=DIR] [WHERRY_DOCKERFILES=DIR] python -m tests.compat.language

`WHERRY_BUILDKIT` is a checkout of moby/buildkit: every case of its parser and of its shell words must give the same
tree, the same words. `WHERRY_PATTERNMATCHER` is one of moby/patternmatcher: every case of its matcher must give the
same answer. `WHERRY_DOCKERFILES` is a directory with Dockerfiles and, for each, what another parser said: a line of
JSON in `reference.jsonl` with `Path` (relative), `Error` ("" where it was accepted) and `Dump` (the tree); where it has
`Warnings` (`Rule`, `Detail`, `Lines`: first and last), lint must find the same, every image being a bare linux/amd64
one with a PATH. None of them is part of this project; the exit code is 1 when something differs.
"""

import ast
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.ignorefile import Matcher
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse
from wherry.builder.language.shellwords import Lexer
from wherry.builder.lint.linter import BaseImage, Surroundings, lint
from wherry.errors import InvalidArgument
from wherry.oci.platform import Platform

AGREEMENT = 0.99


def trees(root: Path) -> Iterator[tuple[str, str, str]]:
    """Name, our tree and theirs, of each case in `testfiles`; for `testfiles-negative` "refused" is expected."""
    cases = root / "frontend/dockerfile/parser"
    for directory in sorted((cases / "testfiles").iterdir()):
        expected = (directory / "result").read_text()
        yield directory.name, _tree(directory / "Dockerfile") + "\n", expected
    for directory in sorted((cases / "testfiles-negative").iterdir()):
        got = _tree(directory / "Dockerfile")
        yield directory.name, "refused" if got.startswith("refused") else got, "refused"


def _tree(path: Path) -> str:
    try:
        return parse(path.read_bytes()).dump()
    except DockerfileError as error:
        return f"refused: {error}"


def variables(root: Path) -> Iterator[tuple[str, str, str]]:
    """Each line of `envVarTest` that is about every system or Unix."""
    env = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}
    for line in (root / "frontend/dockerfile/shell/envVarTest").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        system, word, expected = (part.strip() for part in line.strip().split("|"))
        if system != "W":
            yield line, _word(word, env), expected


def _word(word: str, env: dict[str, str]) -> str:
    try:
        return Lexer().process_word(word, env)
    except InvalidArgument:
        return "error"


def words(root: Path) -> Iterator[tuple[str, str, str]]:
    """Each line of `wordsTest`; its ENV lines set variables for those below."""
    env: dict[str, str] = {}
    for line in (root / "frontend/dockerfile/shell/wordsTest").read_text().split("\n"):
        if line.startswith("ENV "):
            name, _, value = line[4:].lstrip().partition("=")
            env[name] = value
        elif line.strip() and not line.startswith("#"):
            test, _, expected = line.partition("|")
            try:
                got = ",".join(Lexer().process_words(test.strip(), env))
            except InvalidArgument:
                got = "error"
            yield line, got, ",".join(part.lstrip() for part in expected.split(","))


def patterns(root: Path) -> Iterator[tuple[str, str, str]]:
    """Each `{pattern(s), path, answer}` in the tables of the matcher's tests."""
    text = (root / "patternmatcher_test.go").read_text()
    string = r'"(?:[^"\\]|\\.)*"'
    one = rf"\{{({string}), ({string}), (true|false)\}}"
    for pattern, path, answer in re.findall(one, text):
        yield _case([ast.literal_eval(pattern)], ast.literal_eval(path), answer)
    many = rf"\{{\[\]string\{{((?:{string}(?:, )?)+)\}}, ({string}), (true|false)\}}"
    for group, path, answer in re.findall(many, text):
        yield _case([ast.literal_eval(item) for item in re.findall(string, group)], ast.literal_eval(path), answer)
    for pattern, path, answer, error in re.findall(rf"\{{({string}), ({string}), (true|false), (\S+)\}}", text):
        expected = "error" if error != "nil" else answer
        yield _case([ast.literal_eval(pattern)], ast.literal_eval(path), expected)


def _case(items: list[str], path: str, expected: str) -> tuple[str, str, str]:
    try:
        got = str(Matcher(items).matches(path)).lower()
    except InvalidArgument:
        got = "error"
    return f"{items} {path}", got, expected


def corpus(root: Path) -> bool:
    """Compare with another parser, file by file; print each that differs; whether enough agree."""
    total = agreed = same_words = same_trees = accepted = linted = same_findings = 0
    for line in (root / "reference.jsonl").read_text().splitlines():
        theirs = json.loads(line)
        error, tree = "", ""
        try:
            document = parse((root / theirs["Path"]).read_bytes())
            tree = document.dump()
            parse_stages(document)
        except DockerfileError as caught:
            error = str(caught)
        total += 1
        accepted += not theirs["Error"]
        agreed += bool(error) == bool(theirs["Error"])
        same_words += error == theirs["Error"]
        equal = tree.encode("utf-8", "replace") == theirs["Dump"].encode("utf-8", "replace")
        same_trees += equal
        if "Warnings" in theirs:
            linted += 1
            wanted = sorted((w["Rule"], w["Detail"], *w["Lines"]) for w in theirs["Warnings"])
            found = _findings(root / theirs["Path"])
            same_findings += found == wanted
            if found != wanted:
                print(f"lint differs: {theirs['Path']}\n  theirs: {wanted}\n  ours:   {found}")
        if error != theirs["Error"] or not equal:
            print(f"differs: {theirs['Path']}\n  theirs: {theirs['Error']}\n  ours:   {error}")
    print(
        f"Dockerfiles: {total}, the other parser accepts {accepted} and refuses {total - accepted}; we agree "
        f"on {agreed} ({agreed / max(total, 1):.2%}), in the same words on {same_words}, the same tree on {same_trees}"
    )
    if linted:
        print(f"lint: {linted} files, the same findings in {same_findings}")
    return total > 0 and agreed >= AGREEMENT * total and same_findings >= AGREEMENT * linted


class _Everything(dict[str, BaseImage]):
    """Every image is here, and has nothing but a PATH."""

    _BARE = BaseImage({"PATH": "/bin"}, platform=Platform("linux", "amd64"))

    def __contains__(self, _name: object) -> bool:
        return True

    def __getitem__(self, _name: str) -> BaseImage:
        return self._BARE

    def get(self, _name: str, _default: Any = None) -> BaseImage:
        return self._BARE


def _findings(path: Path) -> list[tuple[Any, ...]]:
    here = Platform("linux", "amd64")
    around = Surroundings(build_platform=here, target_platform=here, images=_Everything())
    return sorted((f.rule.name, f.detail, *f.location) for f in lint(path.read_bytes(), around).findings)


def main() -> int:
    """Run what the environment names."""
    failed = False
    jobs = []
    buildkit, matcher = os.environ.get("WHERRY_BUILDKIT"), os.environ.get("WHERRY_PATTERNMATCHER")
    if buildkit:
        jobs += [("trees", trees(Path(buildkit))), ("variables", variables(Path(buildkit)))]
        jobs += [("words", words(Path(buildkit)))]
    if matcher:
        jobs += [("patterns", patterns(Path(matcher)))]
    for name, cases in jobs:
        count = wrong = 0
        for case, got, expected in cases:
            count += 1
            if got != expected:
                wrong += 1
                print(f"differs: {name}: {case}\n  theirs: {expected!r}\n  ours:   {got!r}")
        print(f"{name}: {count} cases, {wrong} differ")
        failed |= wrong > 0 or count == 0
    if os.environ.get("WHERRY_DOCKERFILES"):
        failed |= not corpus(Path(os.environ["WHERRY_DOCKERFILES"]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
