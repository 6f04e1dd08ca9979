"""What a wheel holds, and the commands that it installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from wherry import __version__

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("wherry", "wherryd", "wherry-runtime", "wherry-registry")


def test_a_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """Modules, templates, service files, the marker of types, the licence and the commands; no test, no cache."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info, data = f"wherry-{__version__}.dist-info", f"wherry-{__version__}.data"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "src/wherry"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    package = {name.removeprefix("src/") for name in files if name and (ROOT / name).exists()}
    metadata = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    assert names == package | metadata | {f"{data}/scripts/{command}" for command in COMMANDS}
    assert {"wherry/py.typed", "wherry/service/wherry.init"} <= names


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_its_version(command: str) -> None:
    """Each command that is installed starts, and all are of one version."""
    path = Path(sys.executable).parent / command
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert f"version {__version__}" in done.stdout
