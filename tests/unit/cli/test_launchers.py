"""The launchers find interpreter and package: virtual environment, editable install, system install, checkout, link."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIB = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
EXPECTED = b"Wherry version "


def _version(script: Path | str, **env: str) -> bytes:
    done = subprocess.run(
        [str(script), "-v"], capture_output=True, env={**os.environ, **env}, cwd="/", timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment as installers leave it, without the package."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    shutil.copy(ROOT / "scripts" / "wherry", home / "bin" / "wherry")
    return home


def test_virtual_environment(environment: Path) -> None:
    """The package lies in site-packages; nothing outside the environment is searched."""
    (environment / LIB / "site-packages" / "wherry").symlink_to(ROOT / "src" / "wherry")
    assert _version(environment / "bin" / "wherry").startswith(EXPECTED)


def test_editable_install(environment: Path) -> None:
    """hatchling's .pth file names the source."""
    pth = environment / LIB / "site-packages" / "_editable_impl_wherry.pth"
    pth.write_text(f"{ROOT}/src\n")
    assert _version(environment / "bin" / "wherry").startswith(EXPECTED)


def test_link_to_the_environment(environment: Path, tmp_path: Path) -> None:
    """A link from a directory on PATH is followed."""
    (environment / LIB / "site-packages" / "wherry").symlink_to(ROOT / "src" / "wherry")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "wherry").symlink_to(environment / "bin" / "wherry")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", "wherry -v"], capture_output=True, env={**os.environ, "PATH": path}, check=True)
    assert done.stdout.startswith(EXPECTED)


@pytest.mark.parametrize("kind", ["site-packages", "dist-packages"])
def test_system_install(tmp_path: Path, kind: str) -> None:
    """Beside it is no interpreter: the one on PATH is used, and the package found below the same prefix."""
    prefix = tmp_path / "usr local"
    (prefix / "bin").mkdir(parents=True)
    (prefix / LIB / kind).mkdir(parents=True)
    (prefix / LIB / kind / "wherry").symlink_to(ROOT / "src" / "wherry")
    shutil.copy(ROOT / "scripts" / "wherry", prefix / "bin" / "wherry")
    python = tmp_path / "python"
    python.mkdir()
    (python / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    assert _version(prefix / "bin" / "wherry", PATH=f"{python}:/usr/bin:/bin").startswith(EXPECTED)


def test_checkout() -> None:
    """A checkout's own scripts run the checkout."""
    assert _version(ROOT / "scripts" / "wherry").startswith(EXPECTED)


def test_environment_variables_do_not_reach_it(environment: Path, tmp_path: Path) -> None:
    """PYTHONPATH, PYTHONSTARTUP and files in the working directory cannot get in between."""
    (environment / LIB / "site-packages" / "wherry").symlink_to(ROOT / "src" / "wherry")
    (tmp_path / "os.py").write_text("raise SystemExit(9)")
    (tmp_path / "wherry.py").write_text("raise SystemExit(9)")
    assert _version(environment / "bin" / "wherry", PYTHONPATH=str(tmp_path)).startswith(EXPECTED)


@pytest.mark.parametrize("name", ["wherryd", "wherry-runtime", "wherry-registry"])
def test_launchers_are_alike(name: str) -> None:
    """They differ in what they run only, and all can be executed."""
    path = ROOT / "scripts" / name
    assert os.access(path, os.X_OK)

    def common(text: str) -> list[str]:
        unlike = ("# The ", "from posix import", "from wherry.", "sys.exit(", "_exit(", "main()")
        return [line for line in text.splitlines() if not line.startswith(unlike)]

    assert common(path.read_text()) == common((ROOT / "scripts" / "wherry").read_text())
