"""Single words of the runtime: mount options and their opposites, global flags, the umask."""

from typing import Any

import pytest

from wherry.errors import InvalidArgument
from wherry.linux import mount as m
from wherry.oci.runtime_config import parse
from wherry.runtime import arguments
from wherry.runtime.capabilities import EVERY
from wherry.runtime.default_spec import default_spec
from wherry.runtime.mount_options import sort_options
from wherry.runtime.plan import plan_container

_SETS = {
    "dirsync": m.MS_DIRSYNC,
    "iversion": m.MS_I_VERSION,
    "lazytime": m.MS_LAZYTIME,
    "mand": m.MS_MANDLOCK,
    "noatime": m.MS_NOATIME,
    "nodev": m.MS_NODEV,
    "nodiratime": m.MS_NODIRATIME,
    "noexec": m.MS_NOEXEC,
    "nosuid": m.MS_NOSUID,
    "nosymfollow": m.MS_NOSYMFOLLOW,
    "relatime": m.MS_RELATIME,
    "ro": m.MS_RDONLY,
    "silent": m.MS_SILENT,
    "strictatime": m.MS_STRICTATIME,
    "sync": m.MS_SYNCHRONOUS,
}
_OPPOSITES = {"ro": "rw", "sync": "async", "silent": "loud"}


@pytest.mark.parametrize("word", sorted(_SETS))
def test_a_flag_and_its_opposite(word: str) -> None:
    """A word sets its flag, its opposite takes it back, and the later of both counts (mount(8))."""
    opposite = _OPPOSITES.get(word) or (word.removeprefix("no") if word.startswith("no") else f"no{word}")
    assert sort_options((word,)).flags == _SETS[word]
    if word != "dirsync":  # mount(8) has none
        assert sort_options((word, opposite)).flags == 0
        assert sort_options((opposite, word)).flags == _SETS[word]


@pytest.mark.parametrize(
    ("line", "command"),
    [("--version", "version"), ("-v", "version"), ("--help", "help"), ("", "help"), ("help run", "help")],
)
def test_what_needs_no_command(line: str, command: str) -> None:
    """`--version`, `--help` and nothing at all are commands of their own."""
    assert arguments.read(line.split()).command == command


def test_no_command_is_unknown() -> None:
    """Anything else is refused by name."""
    with pytest.raises(InvalidArgument, match='unknown command "fly"'):
        arguments.read(["fly"])


@pytest.mark.parametrize(("user", "umask"), [({}, 0o022), ({"umask": 0o077}, 0o077), ({"umask": 0}, 0)])
def test_the_umask(user: dict[str, Any], umask: int) -> None:
    """022 unless the process says another one, and 0 is another one."""
    config = default_spec()
    config["process"]["user"].update(user)
    assert plan_container(parse(config), "/bundle", host_capabilities=EVERY).process.umask == umask
