"""Check that the tests which SECURITY.md names exist, and that none of them is skipped."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_NAMED = re.compile(r"`(tests/[\w/]+\.py)?::(\w+)`")
_SKIPS = ("skip", "skipif", "xfail", "importorskip")
# whose attack is one on this architecture only
_ELSEWHERE = {
    (f"tests/{file}.py", "os.uname().machine != 'x86_64'")
    for file in ("confine/test_seccomp_filter", "e2e/test_socketcall")
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _rows() -> list[tuple[str, str]]:
    """Each test that the page names: its file and its function."""
    found = []
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        file = ""
        for named in _NAMED.finditer(line):
            file = named.group(1) or file
            found.append((file, named.group(2)))
    return found


@cache
def _module(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


def _functions(file: str) -> dict[str, Function]:
    return {node.name: node for node in _module(file).body if isinstance(node, Function)}


def _skips(node: ast.AST) -> list[str]:
    """What skips a test, or lets it fail, in a piece of code: `pytest.skip(…)`, a mark, an `importorskip`."""
    return [
        ast.unparse(found)
        for found in ast.walk(node)
        if isinstance(found, ast.Attribute) and found.attr in _SKIPS and ast.unparse(found).startswith("pytest.")
    ]


def _of_the_module(file: str) -> list[str]:
    """Marks and skips of a whole module: all that stands outside of its functions and classes."""
    found: list[str] = []
    for node in _module(file).body:
        if isinstance(node, Function | ast.ClassDef):
            continue
        skips = [call for call in ast.walk(node) if isinstance(call, ast.Call) and _skips(call.func)]
        known = [call for call in skips if call.args and (file, ast.unparse(call.args[0])) in _ELSEWHERE]
        if len(known) < len(skips) or (not skips and _skips(node)):
            found.append(ast.unparse(node))
    return found


def _fixtures(file: str, function: Function) -> Iterator[tuple[str, Function]]:
    """The fixtures that a test takes, and those that they take: of its module, its conftests and what these import."""
    above = [parent / "conftest.py" for parent in Path(file).parents]
    visible = {}
    for place in (*(str(path) for path in reversed(above) if (ROOT / path).exists()), file):
        for node in _module(place).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests"):
                source = node.module.replace(".", "/") + ".py"
                if (ROOT / source).exists():
                    there = _functions(source)
                    visible.update({name.name: (source, name.name) for name in node.names if name.name in there})
        visible.update({name: (place, name) for name in _functions(place)})
    seen, waiting = set(), [argument.arg for argument in function.args.args + function.args.kwonlyargs]
    waiting += [  # usefixtures("name")
        node.value
        for decorator in function.decorator_list
        for node in ast.walk(decorator)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in visible:
            continue
        seen.add(name)
        source, real = visible[name]
        found = _functions(source)[real]
        if any("fixture" in ast.unparse(decorator) for decorator in found.decorator_list):
            yield source, found
            waiting += [argument.arg for argument in found.args.args]


def test_every_row_names_a_test() -> None:
    """A row of the tables that ends without a test is a promise only; what is not promised has a table of its own."""
    promised, _, rest = (ROOT / "SECURITY.md").read_text().partition("## What is not promised\n")
    assert rest.count("\n| ") > 10
    rows = [line for line in promised.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 40
    assert not [line for line in rows if "| tests |" not in line and not _NAMED.search(line)]


@pytest.mark.parametrize(("file", "name"), _rows())
def test_a_named_test_exists(file: str, name: str) -> None:
    """The function is there, and is run always: nothing in it, its marks, its module and its fixtures skips it."""
    function = _functions(file)[name]
    assert not _skips(function)
    assert not _of_the_module(file)
    assert not [(source, used.name) for source, used in _fixtures(file, function) if _skips(used)]


def test_what_skips_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark of the module, of a list of marks, a skip in a fixture and one in the test."""
    monkeypatch.setattr("tests.test_security.ROOT", tmp_path)
    module = "import pytest\npytestmark = [pytest.mark.root, pytest.mark.skip]\ndef test_it(): ...\n"
    (tmp_path / "marked.py").write_text(module)
    assert _of_the_module("marked.py")
    (tmp_path / "condition.py").write_text("import pytest\npytestmark = pytest.mark.skipif(True, reason='no')\n")
    assert _of_the_module("condition.py")
    (tmp_path / "whole.py").write_text("import pytest\nif True:\n    pytest.skip('x', allow_module_level=True)\n")
    assert _of_the_module("whole.py")
    (tmp_path / "conftest.py").write_text("import pytest\n@pytest.fixture\ndef tool():\n    pytest.skip('none')\n")
    (tmp_path / "good.py").write_text(
        "import pytest\npytestmark = pytest.mark.root\n@pytest.fixture\ndef near(tool): ...\n"
        "def test_by_a_fixture(near): ...\ndef test_itself():\n    pytest.xfail('x')\ndef test_good(tmp_path): ...\n"
    )
    assert not _of_the_module("good.py")
    functions = _functions("good.py")
    assert _skips(functions["test_itself"])
    assert [used.name for _, used in _fixtures("good.py", functions["test_by_a_fixture"]) if _skips(used)] == ["tool"]
    assert not list(_fixtures("good.py", functions["test_good"]))
