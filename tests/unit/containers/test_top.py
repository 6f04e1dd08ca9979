"""`top` where the host cannot tell."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wherry.containers.top import top
from wherry.errors import WherryError


class _Monitor:
    async def request(self, _name: str) -> dict[str, Any]:
        return {"pids": [1]}


def test_a_host_without_ps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the program, in Go's words that clients know."""
    monkeypatch.setenv("PATH", str(tmp_path))
    container = cast("Any", SimpleNamespace(running=True, monitor=_Monitor(), id="0" * 64))
    with pytest.raises(WherryError, match=r'^exec: "ps": executable file not found in \$PATH$'):
        asyncio.run(top(container, ""))
