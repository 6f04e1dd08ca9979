"""The first command in a fresh checkout, on a machine where apt has not installed anything yet, Python neither."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# what a bare Debian has, and make
_BARE = "make sh dirname grep sha256sum cat rm mktemp date sleep tail cut tr mkdir chmod cp ln".split()
_SAYS = '#!/bin/sh\necho "{name} $*" >>"$LOG"\n'
_PYTHON = (
    _SAYS.format(name="python3")
    + '[ "$2" != venv ] || { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; }\n'
    + '[ -z "${FAIL:-}" ] || [ "$2" != "$FAIL" ] || { echo "it broke"; exit 3; }\n'
)


class Machine:
    """A checkout, and a PATH with apt, dpkg and what a bare Debian has."""

    def __init__(self, base: Path) -> None:
        self.log = base / "log"
        self.bin = base / "bin"
        self.checkout = base / "checkout"
        self.bin.mkdir()
        (self.checkout / "scripts").mkdir(parents=True)
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.checkout)
        # /usr/bin of the machine that runs this test has a python3
        script = (ROOT / "scripts/install.sh").read_text().replace("/usr/bin/", f"{self.bin}/")
        (self.checkout / "scripts/install.sh").write_text(script)
        for name in _BARE:
            os.symlink(shutil.which(name) or "", self.bin / name)
        (base / "python3").write_text(_PYTHON)
        (base / "python3").chmod(0o755)
        installs = f'[ "$1" != install ] || {{ cp {base}/python3 {self.bin}/python3; : >{base}/installed; }}\n'
        self.program("apt-get", _SAYS.format(name="apt-get") + installs)
        self.program("dpkg-query", f"#!/bin/sh\n[ ! -e {base}/installed ] || echo installed\n")
        self.program("dpkg", "#!/bin/sh\necho amd64\n")
        self.program("id", "#!/bin/sh\necho 0\n")

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        # it may be a link to the machine's own
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def make(self, target: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run make with that PATH alone."""
        return subprocess.run(
            [self.bin / "make", target],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "LOG": str(self.log), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """What was executed, in order."""
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A bare machine."""
    return Machine(tmp_path)


def test_run_works_at_the_first_try(machine: Machine) -> None:
    """The package lists are fetched, then packages, then Python is looked for; the second time nothing is installed."""
    done = machine.make("run")
    assert done.returncode == 0, done.stderr
    update, install, venv, locked, editable, tour = machine.calls()
    assert update.startswith("apt-get update")
    assert install.startswith("apt-get install") and " python3-venv " in install
    assert venv == "python3 -m venv .venv"
    assert "--require-hashes -r requirements.lock" in locked and "--editable ." in editable
    assert tour == "python3 scripts/tour"
    # it says what it does while it takes time
    assert "installing Debian packages: python3-venv " in done.stdout and "installing Python packages" in done.stdout
    again = machine.make("run")
    assert again.returncode == 0 and again.stdout == ""
    assert machine.calls()[6:] == ["python3 scripts/tour"]


def test_no_step_is_silent(machine: Machine) -> None:
    """Each step that takes more than ten seconds shows its last line, within the width of a small window."""
    # a clock that is 20 seconds later whenever somebody looks
    clock = machine.bin.parent / "clock"
    clock.write_text("0")
    machine.program("date", f"#!/bin/sh\nread now <{clock}\necho $((now + 20)) >{clock}\ncat {clock}\n")
    slow = machine.bin.parent / "python3"
    slow.write_text(_PYTHON.replace("#!/bin/sh\n", '#!/bin/sh\n[ "$2" = scripts/tour ] || sleep 1\n', 1))
    done = machine.make("run")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if " s: " in line]
    assert [line for line in told if line.partition(" s: ")[2].startswith(str(machine.bin)[:40])], done.stdout
    assert [line for line in told if " pip install " in line], done.stdout
    assert max(map(len, told)) <= 79


def test_peers_ask_no_list_before_it_is_fetched(machine: Machine) -> None:
    """`make peers` of a bare machine, too: nothing is asked of apt before `apt-get update`."""
    done = machine.make("peers")
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    assert calls[0].startswith("apt-get update") and calls[1].startswith("apt-get install")
    assert " libatomic1 " in calls[1], "the driver of the browser tests needs it"
    assert calls.index("python3 -m tests.peers") > 3


def test_a_step_that_fails_says_why(machine: Machine) -> None:
    """The output of what failed is shown, the command fails, and the next one begins there again."""
    done = machine.make("run", FAIL="pip")
    assert done.returncode != 0 and "it broke" in done.stderr
    assert machine.make("run").returncode == 0
    assert sum(call.startswith("apt-get") for call in machine.calls()) == 2


def test_without_root_it_names_what_is_missing(machine: Machine) -> None:
    """Only root can install: the packages are named, and nothing is done."""
    machine.program("id", "#!/bin/sh\necho 1000\n")
    done = machine.make("run")
    assert done.returncode != 0 and "python3-venv" in done.stderr
    assert not machine.log.exists()


def test_unit_needs_next_to_nothing(machine: Machine) -> None:
    """`make unit` is for everybody's machine: no root where three packages are installed, and none of the others."""
    machine.program("dpkg-query", "#!/bin/sh\ncase $4 in python3-venv|git|libseccomp2) echo installed; esac\n")
    machine.program("id", "#!/bin/sh\necho 1000\n")
    shutil.copy(machine.bin.parent / "python3", machine.bin)
    done = machine.make("unit")
    assert done.returncode == 0, done.stderr
    assert machine.calls()[-1] == "python3 -m pytest -q tests/unit tests/test_architecture.py tests/test_security.py"
    assert not [call for call in machine.calls() if call.startswith("apt-get")]
