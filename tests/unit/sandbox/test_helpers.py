"""A helper whose monitor dies while it is being started."""

import asyncio
import gc
from pathlib import Path
from typing import Any, cast

import pytest

from wherry.errors import MonitorLost, Unavailable
from wherry.monitor.client import MonitorHandle
from wherry.paths import Roots
from wherry.sandbox.helpers import Helpers


def test_an_end_that_is_told_twice_is_one_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The request fails and the handle reports the loss, in one turn: the caller is told once, and nothing is left."""

    async def unable(*_: object) -> MonitorHandle:
        raise Unavailable("the spawner is closed")

    async def scenario() -> None:
        helpers = Helpers(Roots(str(tmp_path / "data"), str(tmp_path / "run")), unable, unable, lambda _path: None)
        helper = helpers.helper("sleeper", {})

        class Dying:
            async def request(self, _op: str, **_: Any) -> None:
                helper._lost()
                raise MonitorLost("monitor 1 is gone")

        helper._monitor = cast(MonitorHandle, Dying())
        with pytest.raises(MonitorLost):
            await helper.ensure()
        helper.leave()

    asyncio.run(scenario())
    gc.collect()
    assert "never retrieved" not in caplog.text
