"""runc's command line, and the smaller parts of the runtime."""

import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from wherry.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NotSupported
from wherry.runtime import arguments, command


def test_flags_in_runcs_ways() -> None:
    """Long, short, joined, single-dashed; what follows the first word is not looked at."""
    line = "--root=/r --log-format json exec -t -e A=1 --env B=2 -detach box ls -l --"
    args = arguments.read(line.split())
    assert args.command == "exec"
    assert args.words == ["box", "ls", "-l", "--"]
    assert args.text("root") == "/r"
    assert args.text("log_format") == "json"
    assert args.has("tty") and args.has("detach")
    assert args.texts("env") == ["A=1", "B=2"]


def test_absent_flags() -> None:
    """Each kind has its own nothing."""
    args = arguments.read(["update", "--pids-limit", "-1", "box"])
    assert args.number("pids_limit") == -1
    assert args.number("memory") is None
    assert not args.has("resources") and args.text("resources") == "" and args.texts("env") == []


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--systemd-cgroup", "list"], NotSupported),
        (["restore", "x"], NotSupported),
        (["fly"], InvalidArgument),
        (["state"], InvalidArgument),
        (["state", "a", "b"], InvalidArgument),
        (["create", "--preserve-fds", "many", "x"], InvalidArgument),
        (["create", "--bundle"], InvalidArgument),
        (["run", "--detach=maybe", "x"], InvalidArgument),
        (["--what", "list"], InvalidArgument),
    ],
)
def test_mistakes(argv: list[str], error: type[Exception]) -> None:
    """A wrong line is refused."""
    with pytest.raises(error):
        arguments.read(argv)


def test_program_is_searched_in_the_given_path_only(tmp_path: Path) -> None:
    """Directories in order; directories and files without the x bit are passed over, and decide the words."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/tool").mkdir()
    (tmp_path / "b/tool").write_text("")
    path = {"PATH": f"{tmp_path}/none:{tmp_path}/a:{tmp_path}/b"}
    with pytest.raises(CommandNotExecutable, match='exec: "tool": permission denied'):
        command.find("tool", path)
    (tmp_path / "c/tool").write_text("")
    (tmp_path / "c/tool").chmod(0o755)
    assert command.find("tool", {"PATH": f"{path['PATH']}:{tmp_path}/c"}) == f"{tmp_path}/c/tool"
    with pytest.raises(CommandNotFound, match=r'exec: "sh": executable file not found in \$PATH'):
        command.find("sh", {})


def test_import_budget() -> None:
    """What forks and enters containers loads none of the slow modules."""
    source = Path(wherry.__file__).parents[1]
    forbidden = {
        "typing", "dataclasses", "pathlib", "logging", "argparse", "subprocess", "msgspec", "asyncio", "contextlib",
        "shutil", "signal", "socket", "traceback", "tempfile", "selectors",
    }  # fmt: skip
    code = (
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        "import wherry.runtime.launch, wherry.runtime.join, wherry.runtime.plan, wherry.runtime.cli\n"
        "import wherry.runtime.cli_containers, wherry.runtime.cli_processes\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True).stdout
    assert not forbidden & set(loaded.split())
