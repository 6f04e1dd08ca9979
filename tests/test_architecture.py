"""The structure holds itself: floors, fork sites, import budgets, file sizes."""

import ast
import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
PACKAGE = SRC / "wherry"

FLOORS: dict[str, float] = {
    "__init__": 0,
    "errors": 0,
    "paths": 0,
    "daemon_keys": 0,
    "values": 0,
    "patterns": 0.5,
    "config_checks": 0.3,  # over errors
    "config": 0.5,  # over those, and paths
    "oci": 1,
    "wire": 1,
    "linux": 1,
    "store": 2,
    "runtime": 3,
    "snapshots": 3,
    "network": 3,
    "volumes": 3,
    "distribution": 3,
    "proxy": 3,
    "service": 3,
    "monitor": 4,
    "images": 4,
    "containers": 5,
    "builder": 5,
    "events": 2.5,  # over the journal
    "sandbox": 4.5,
    "networking": 5.5,
    "building": 5.5,
    "balancing": 5.5,
    "engine": 6,
    "client": 6,
    "cli": 7,
    "api": 7,
    "registry": 7,
    "daemon": 8,
}

REGISTRY_MAY = {"oci", "linux"}
"""The registry is a product of its own."""

STEPS: dict[str, set[str]] = {
    "builder.language": set(),
    "builder.graph": {"builder.language"},
    "builder.lint": {"builder.language", "builder.graph"},
    "builder.contexts": {"builder.language", "builder.graph", "builder.ports", "builder.progress"},
    "containers.spec": set(),
}
"""Package -> what else of its floor it may import: each step of the builder knows only the earlier."""

FORK_SITES = {"linux/clone.py", "monitor/child.py", "runtime/cli.py"}
"""Files that may call fork, clone or unshare-and-fork by themselves."""

_HEAVY = {"typing", "dataclasses", "pathlib", "logging", "argparse", "subprocess", "msgspec", "asyncio", "aiohttp"}
BUDGETS: dict[str, tuple[str, set[str]]] = {
    "the wherry command": ("wherry.cli.main", {*_HEAVY, "enum", "re", "email", "http", "ssl", "json.tool"}),
    "the spawner": ("wherry.monitor.spawner", _HEAVY),
    "wherry-runtime": ("wherry.runtime.cli", {*_HEAVY, "enum", "re"}),
}
"""Entry point -> modules that it must not have loaded when it begins to work."""


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _place(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path: Path) -> list[tuple[int, str]]:
    """Every `wherry` module that a file imports, wherever in the file, but for type checking only."""
    tree = ast.parse(path.read_text())
    checking = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "wherry":
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "wherry" else [node.module]
            )
            found += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "wherry"]
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    """A module imports from its own package or from a lower floor, never from a neighbour or from above."""
    place = _place(path)
    assert place in FLOORS, f"{place} is on no floor: say in FLOORS where it belongs"
    wrong = []
    for line, name in _imports(path):
        parts = name.split(".")
        target = parts[1] if len(parts) > 1 else "__init__"
        target = target if target in FLOORS else "__init__"
        allowed = target == place or FLOORS[target] < FLOORS[place]
        if place == "registry" and target != place:
            allowed = target in REGISTRY_MAY or FLOORS[target] < 1
        if target == "registry" and place != "registry":
            allowed = False
        if not allowed:
            wrong.append(f"line {line} imports {name}")
    assert not wrong, f"{path.relative_to(SRC)} (floor {FLOORS[place]}): {'; '.join(wrong)}"


@pytest.mark.parametrize("package", sorted(STEPS))
def test_a_step_imports_only_the_earlier(package: str) -> None:
    """Within a floor: language, graph, and what builds; the configuration of a container knows no verb."""
    whole = f"wherry.{package.partition('.')[0]}"
    allowed = tuple(f"wherry.{name}" for name in (package, *STEPS[package]))
    files = sorted((PACKAGE / package.replace(".", "/")).glob("*.py"))
    assert len(files) > 2
    for path in files:
        names = [name for _, name in _imports(path) if name == whole or name.startswith(f"{whole}.")]
        assert not [name for name in names if not name.startswith(allowed)], path


def test_only_named_files_fork() -> None:
    """Processes are made in one place; whatever else needs one executes it."""
    sites = set()
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("fork", "forkpty")
                and isinstance(node.value, ast.Name)
            ):
                sites.add(str(path.relative_to(PACKAGE)))
    assert sites <= FORK_SITES, f"new fork sites: {sorted(sites - FORK_SITES)}"


@pytest.mark.parametrize("entry", sorted(BUDGETS))
def test_entry_points_keep_their_import_budget(entry: str) -> None:
    """A process that is started for each command loads nothing heavy before it works."""
    module, banned = BUDGETS[entry]
    import isal

    site = Path(isal.__file__).parent.parent
    paths = f"sys.path[:0] = [{str(SRC)!r}]; sys.path.append({str(site)!r})"
    code = f"import sys; {paths}; import {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert not loaded & banned, f"{entry} loads {sorted(loaded & banned)}"


def test_the_account_names_what_is_there() -> None:
    """ARCHITECTURE.md names every package, and no module that is not there."""
    account = (SRC.parent / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`([a-z_]+/[\w/]+\.py)`", account)
    assert len(named) > 40
    assert not [name for name in named if not (PACKAGE / name).exists() and not (SRC.parent / name).exists()]
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages == {name for name in FLOORS if (PACKAGE / name).is_dir()}
    assert not [name for name in packages if f"`{name}/`" not in account]


@pytest.mark.parametrize("top", ["src", "tests", "bench", "scripts"])
def test_files_hold_one_idea(top: str) -> None:
    """No file outgrows 500 lines."""
    root = SRC.parent
    files = (root / top).rglob("*.py")
    long = {str(p.relative_to(root)): n for p in files if (n := len(p.read_text().splitlines())) > 500}
    assert not long, long


def test_background_work_has_a_name_and_a_deadline() -> None:
    """Only `linux/background.py` makes tasks that nobody waits for; priming ends with the block that it serves."""
    makers = {
        str(path.relative_to(PACKAGE))
        for path in _modules()
        if _place(path) not in ("api", "registry", "cli", "client")
        and re.search(r"(loop\(?\)?|asyncio)\.create_task\(", path.read_text())
    }
    assert makers == {"linux/background.py", "containers/priming.py"}


def test_no_test_is_passed_by(pytestconfig: pytest.Config) -> None:
    """pytest looks into every folder that has tests; its own list of what it passes by has `build`, a package here."""
    tests = Path(__file__).parent
    passed_by = pytestconfig.getini("norecursedirs")
    folders = {path.parent for path in tests.rglob("test_*.py")}
    assert len(folders) > 40
    names = {part for folder in folders for part in folder.relative_to(tests).parts}
    assert not [name for name in names for pattern in passed_by if fnmatch.fnmatch(name, pattern)]
