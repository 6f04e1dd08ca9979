"""SECURITY.md names the tests that carry out each attack; here is held that they exist, and that none is skipped."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_NAMED = re.compile(r"`(tests/[\w/]+\.py)?::(\w+)`")


def _rows() -> list[tuple[str, str]]:
    """Each test that the page names: its file and its function."""
    found = []
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        file = ""
        for named in _NAMED.finditer(line):
            file = named.group(1) or file
            found.append((file, named.group(2)))
    return found


def test_every_row_names_a_test() -> None:
    """A row of the tables that ends without a test is a promise only."""
    rows = [
        line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ") and "---" not in line
    ]
    assert len(rows) > 40
    assert not [line for line in rows if "| tests |" not in line and not _NAMED.search(line)]


@pytest.mark.parametrize(("file", "name"), _rows())
def test_a_named_test_exists(file: str, name: str) -> None:
    """The function is there, and is a test that is run always."""
    tree = ast.parse((ROOT / file).read_text())
    (function,) = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    assert not [mark for mark in map(ast.unparse, function.decorator_list) if "skip" in mark or "xfail" in mark]
