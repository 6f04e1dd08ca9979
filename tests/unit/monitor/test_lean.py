"""What the spawner loads, and the JSON that it loads instead."""

import json
import subprocess
import sys
from pathlib import Path

import wherry

SRC = Path(wherry.__file__).parent.parent


def run(code: str) -> str:
    """Run code as the spawner is run."""
    start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from wherry.monitor import lean; assert lean.install(); "
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start + code], capture_output=True, text=True, check=True)
    return done.stdout


def test_spawner_loads_little() -> None:
    """The modules that cost every monitor memory stay out."""
    loaded = set(run("import wherry.monitor.spawner; print(*sys.modules)").split())
    assert not loaded & {"re", "enum", "functools", "signal", "socket", "typing", "traceback", "zlib", "asyncio"}


def test_a_copy_loads_little() -> None:
    """Each step of a build that copies is a fork of the spawner: what it imports, it imports for that step alone."""
    loaded = set(run("import wherry.monitor.spawner; import wherry.snapshots.copying; print(*sys.modules)").split())
    assert not loaded & {"re", "base64", "hashlib", "wherry.snapshots.tar", "wherry.snapshots.archive"}


def test_lean_json_is_json() -> None:
    """The replacement writes and reads what the standard module does."""
    values: list[object] = [None, True, 1, -2.5, 1e300]
    values += ['é\n"\\\x00😀', [], {}, {"a": [1, {"b": "c"}], "": ""}, [[[]]], 10**30]
    code = "import json; v = json.loads(sys.argv[1]); print(json.dumps(v)); print(json.dumps(v, ensure_ascii=False))"
    start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from wherry.monitor import lean; assert lean.install(); "
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", start + code, json.dumps(values)],
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"{json.dumps(values)}\n{json.dumps(values, ensure_ascii=False)}\n"


def test_lean_json_refuses() -> None:
    """What is not JSON is a ValueError there too."""
    cases = ["", " ", "{", '{"a":', '{"a" 1}', "[1,]", "[1] x", '"\n"', '"\\q"', "nul", "\x00"]
    code = f"""
import json
for case in {cases!r}:
    try:
        json.loads(case)
    except json.JSONDecodeError:
        print("refused")
    else:
        print("taken", repr(case))
"""
    start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from wherry.monitor import lean; assert lean.install()\n"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start + code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["refused"] * len(cases)
