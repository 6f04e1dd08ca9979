"""`wherry-registry user` and `token`, as an operator types them."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest

from tests.registry_accounts.serving import Registry
from wherry.registry import config
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.people import People
from wherry.registry.accounts.service import has_accounts
from wherry.registry.main import main


class _Stdin(io.StringIO):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.buffer = io.BytesIO(text.encode())  # type: ignore[misc]


def _run(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", _Stdin(text))
    return main(arguments)


def test_first_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CVE-2026-4404: there is no account until the operator makes one, with a password of their own."""
    root = str(tmp_path / "root")
    assert not has_accounts(config.read(None, root=root))
    assert (
        _run(monkeypatch, "long enough\n", "user", "add", "--root", root, "--admin", "--password-stdin", "admin") == 0
    )
    with contextlib.closing(Database(f"sqlite:///{root}/accounts.db")) as database:
        people = People(database)
        admin = people.find("admin")
        assert admin is not None and admin.admin and admin.password.startswith("$argon2id$")
        assert _run(monkeypatch, "short\n", "user", "add", "--root", root, "--password-stdin", "bob") == 1
        assert _run(monkeypatch, "", "user", "add", "--root", root, "bob") == 1
        assert _run(monkeypatch, "long enough", "user", "add", "--root", root, "--password-stdin", "admin") == 1
        assert "taken" in capsys.readouterr().err
        assert people.count() == 1


def test_password_and_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`passwd` and `rm` act on a running server; the last administrator stays unless forced."""
    registry = Registry(tmp_path)
    try:
        registry.add("root1", admin=True)
        registry.add("alice")
        root = str(tmp_path)
        assert registry.ask("GET", "/v2/", user="alice").status == 200
        assert _run(monkeypatch, "another one", "user", "passwd", "--root", root, "--password-stdin", "alice") == 0
        assert registry.ask("GET", "/v2/", user="alice").status == 401
        assert registry.ask("GET", "/v2/", user="alice", password="another one").status == 200
        assert main(["user", "rm", "--root", root, "alice"]) == 0
        assert registry.ask("GET", "/v2/", user="alice", password="another one").status == 401
        assert main(["user", "rm", "--root", root, "root1"]) == 1
        assert main(["user", "rm", "--root", root, "nobody"]) == 1
        capsys.readouterr()
        assert main(["user", "ls", "--root", root]) == 0
        assert capsys.readouterr().out == "root1\tadministrator\n"
    finally:
        registry.close()


def test_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`token` prints a secret that works at once, and `--revoke` ends it at once."""
    registry = Registry(tmp_path)
    try:
        registry.add("alice")
        registry.push("alice/app", user="alice")
        root = str(tmp_path)
        assert main(["token", "--root", root, "--name", "ci", "--expires", "1d", "--json", "alice/app", "pull"]) == 0
        made = json.loads(capsys.readouterr().out)
        who = {"user": made["username"], "password": made["password"]}
        assert registry.ask("GET", "/v2/alice/app/tags/list", **who).status == 200
        assert registry.ask("POST", "/v2/alice/app/blobs/uploads/", **who).status == 403
        assert main(["token", "--root", root, "--list"]) == 0
        assert capsys.readouterr().out.startswith("alice+ci\talice/app\tpull\texpires 2")
        assert main(["token", "--root", root, "--revoke", "alice+ci"]) == 0
        assert registry.ask("GET", "/v2/alice/app/tags/list", **who).status == 401
        assert main(["token", "--root", root, "alice/app", "everything"]) == 1
        assert main(["token", "--root", root]) == 1
    finally:
        registry.close()


def test_accounts_that_are_gone_do_not_open_the_registry(tmp_path: Path) -> None:
    """A registry that had accounts, and whose database is lost, refuses to begin."""
    registry = Registry(tmp_path)
    registry.close()
    for name in ("accounts.db", "accounts.db-wal", "accounts.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    from wherry.errors import InvalidArgument

    with pytest.raises(InvalidArgument, match=r"accounts\.db is gone"):
        has_accounts(config.read(None, root=str(tmp_path)))
