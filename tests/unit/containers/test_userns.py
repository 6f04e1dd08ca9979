"""Which containers get a user namespace, and with which ids."""

from pathlib import Path

import pytest

from wherry.containers import userns
from wherry.errors import InvalidArgument
from wherry.wire.containers import HostConfig


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put other files in the place of /etc/subuid and /etc/subgid."""
    (tmp_path / "subuid").write_text("few:100000:100\nroot:0:65536\nme:200000:70000\ndockremap:300000:65536\n")
    (tmp_path / "subgid").write_text("me:400000:65536\ngroup:500000:65536\ndockremap:300000:65536\nodd\n")
    real = userns._range
    monkeypatch.setattr(userns, "_range", lambda path, *rest: real(str(tmp_path / Path(path).name), *rest))


@pytest.mark.usefixtures("files")
def test_who_gets_one() -> None:
    """The engine's default, unless a container says otherwise; a container may ask where there is no default."""
    assert userns.resolve(HostConfig(), "") is None
    assert userns.resolve(HostConfig(userns_mode="host"), "me") is None
    assert userns.resolve(HostConfig(), "me") == [200000, 400000, 65536]
    assert userns.resolve(HostConfig(), "me:group") == [200000, 500000, 65536]
    assert userns.resolve(HostConfig(userns_mode="remap"), "") == [300000, 300000, 65536]
    assert userns.lines([200000, 400000, 65536]) == ("0 200000 65536\n", "0 400000 65536\n")
    assert userns.lines(None) == ("", "")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("host", "engine_wide", "words"),
    [
        (HostConfig(userns_mode="nope"), "", "invalid userns mode: nope"),
        (HostConfig(userns_mode="container:x"), "", "invalid userns mode"),
        (HostConfig(privileged=True), "me", "privileged mode is incompatible with user namespaces"),
        (HostConfig(network_mode="host"), "me", "cannot share the host's network namespace"),
        (HostConfig(pid_mode="container:x"), "me", "cannot share another container's PID namespace"),
        (HostConfig(uts_mode="host"), "me", "cannot share the host's UTS namespace"),
        (
            HostConfig(),
            "nobody-here",
            'No subuid ranges found for user "nobody-here" in .*: add a line such as nobody-here:',
        ),
        (HostConfig(), "me:nobody-here", 'No subgid ranges found for user "nobody-here"'),
        (HostConfig(), "few", "are too few"),
        (HostConfig(), "root", "too few, or root's"),
    ],
)
def test_what_is_refused(host: HostConfig, engine_wide: str, words: str) -> None:
    """Ids that nobody set aside, and what a user namespace excludes."""
    with pytest.raises(InvalidArgument, match=words):
        userns.resolve(host, engine_wide)
