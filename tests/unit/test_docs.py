"""The documents name only what exists: files, make targets, modules, and names in modules."""

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.test_architecture import FLOORS

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "wherry"
_AT_THE_ROOT = ("README.md", "ARCHITECTURE.md", "COMPATIBILITY.md", "SECURITY.md", "CONTRIBUTING.md")
DOCUMENTS = sorted(
    [*(ROOT / name for name in _AT_THE_ROOT), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"(?:[\w.*<>-]+/)+[\w.*<>-]*|[\w*-]+\.py|[\w-]+\.md")
_OURS = ("src/", "tests/", "docs/", "bench/", "scripts/", "examples/", ".ci/")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_IN_A_DOCSTRING = re.compile(r"(?<![\w/.<>-])(?:[a-z_]\w*/)+\w+\.(?:py|md)\b")
_MAKE = re.compile(r"\bmake ([a-z-]+)(?![\w/.-]*[/.]\w)")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _exists(name: str, *places: Path) -> bool:
    """Whether a path or pattern is there, below one of `places`. `<package>` stands for any name."""
    pattern = re.sub(r"<[^>]*>", "*", name).strip("/")
    return any(True for place in places for _ in place.glob(pattern))


def _places(document: Path) -> tuple[Path, ...]:
    """Where a document's paths begin: at the root, in the package, or in the package that a page is about."""
    own = PACKAGE / document.stem
    return (ROOT, PACKAGE, SRC, *((own,) if document.parent.name == "packages" and own.is_dir() else ()))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def _sources() -> dict[str, list[ast.Module | ast.ClassDef]]:
    """Modules by their last name, and classes by theirs."""
    found: dict[str, list[ast.Module | ast.ClassDef]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = _tree(path)
        found.setdefault(path.parent.name if path.stem == "__init__" else path.stem, []).append(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


@functools.cache
def _bound(scope: ast.Module | ast.ClassDef) -> frozenset[str]:
    """Every name that a module or a class binds or reads as an attribute of itself."""
    names = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.update(node.value.split())
    return frozenset(names)


def _is_a_name(dotted: str) -> bool:
    """Whether `module.name`, `Class.name` or `wherry.package.module` is there; true for what is none of ours."""
    first, *rest = dotted.split(".")
    if first == "wherry":
        return PACKAGE.joinpath(*rest).is_dir() or _is_a_module(rest) or dotted in _LABELS
    if (PACKAGE / first).is_dir() and _is_a_module([first, *rest]):
        return True
    scopes = _sources().get(first)
    return (
        scopes is None or rest[0] in _ENDINGS or dotted in _FOREIGN or any(rest[0] in _bound(scope) for scope in scopes)
    )


def _is_a_module(parts: list[str]) -> bool:
    """Whether `package.module` or `package.module.name` is below the package."""
    for count in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:count]).with_suffix(".py")
        if path.exists():
            return count == len(parts) or parts[count] in _bound(_tree(path))
    return False


_LABELS = {f"wherry.{name}" for name in ("service", "pid", "lock", "sock", "db", "unit", "init", "default", "json")}
# keys of configurations, and BuildKit's words
_FOREIGN = {"accounts.proxies", "builder.gc", "linux.devices", "linux.resources", "network.host", "State.Error"}
_ENDINGS = {
    "json",
    "log",
    "err",
    "py",
    "md",
    "sock",
    "conf",
    "pid",
    "lock",
    "db",
    "pem",
    "tar",
    "txt",
    "example",
    "io",
    "d",
}


def _words(document: Path) -> Iterator[str]:
    """What a document has in backticks."""
    return (found[1] for found in _CODE.finditer(document.read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_files_that_a_document_names_exist(document: Path) -> None:
    """Paths of the source tree in backticks, and the targets of links."""
    missing = []
    for word in _words(document):
        name = word.partition("::")[0]
        if not _FILE.fullmatch(name) or name.startswith("/"):
            continue
        ours = name.startswith(_OURS) or name.endswith((".py", ".md")) or (PACKAGE / name.partition("/")[0]).is_dir()
        anywhere = "/" not in name and any(True for _ in PACKAGE.rglob(name))
        if ours and not anywhere and not _exists(name, *_places(document)):
            missing.append(name)
    for found in _LINK.finditer(document.read_text()):
        target = found[1].partition("#")[0]
        if target and "://" not in target and not (document.parent / target).exists():
            missing.append(found[1])
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_make_targets_that_a_document_names_exist(document: Path) -> None:
    """`make x`, in backticks or in an indented block."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    code = [*_words(document), *re.findall(r"^ {4}(.*)$", text, re.MULTILINE)]
    named = {name for line in code for name in _MAKE.findall(line)}
    assert not named - targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_dotted_names_that_a_document_names_exist(document: Path) -> None:
    """`layers.Batch`: a module of that name has it."""
    assert not [word for word in _words(document) if _NAME.fullmatch(word) and not _is_a_name(word)]


def _docstrings() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, ast.get_docstring(node) or ""


def test_files_that_docstrings_name_exist() -> None:
    """Paths of modules, tests and documents in docstrings."""
    missing = [
        f"{_id(path)}: {name}"
        for path, text in _docstrings()
        for name in _IN_A_DOCSTRING.findall(text)
        if not _exists(name, ROOT, PACKAGE, path.parent, path.parent.parent)
    ]
    assert not missing


def test_modules_that_docstrings_name_exist() -> None:
    """`package.module` and `package.module.name` in docstrings."""
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    missing = [
        f"{_id(path)}: {word}"
        for path, text in _docstrings()
        for word in _CODE.findall(text)
        if _NAME.fullmatch(word) and word.partition(".")[0] in packages
        if not word.startswith("linux.resources.") and not _is_a_name(word)
    ]
    assert not missing


def test_each_package_has_a_page() -> None:
    """docs/packages has one page for each package, and none for another."""
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert {path.stem for path in (ROOT / "docs/packages").iterdir()} == packages


def _imported(module: str) -> set[str]:
    """What a module of the package imports, also in functions: `containers/start.py`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("wherry"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found.update(f"{name.removeprefix('wherry.').replace('.', '/')}.py" for name in names)
    return found


_ROW = re.compile(r"^\| ([\d½]+) \| `([\w/]+\.py)` \|.*\| (?:from `([\w/.]+)`|(\w+)) \|$", re.MULTILINE)


@pytest.mark.parametrize(
    "walk", (ROOT / "docs/walks.md").read_text().split("\n## ")[1:], ids=lambda w: w.partition("\n")[0]
)
def test_a_walk_goes_where_it_says(walk: str) -> None:
    """The floor of each module is its package's, no step goes up, and each `import` is one."""
    rows = _ROW.findall(walk)
    assert len(rows) == walk.count("| `") > 5
    floors = [float(floor.replace("½", ".5")) for floor, *_ in rows]
    assert floors == sorted(floors, reverse=True)
    assert floors == [FLOORS[module.partition("/")[0]] for _, module, *_ in rows]
    for (_, before, *_), (_, module, source, how) in itertools.pairwise(rows):
        if source or how == "import":
            assert module in _imported(source or before), f"{source or before} does not import {module}"
