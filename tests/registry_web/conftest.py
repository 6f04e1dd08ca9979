"""A registry with pages, and a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry_accounts.serving import Registry

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with a public and a private repository of alice's, and bob."""
    registry = Registry(tmp_path_factory.mktemp("registry"), sign_up="open", attempts=1000)
    registry.add("root1", admin=True)
    registry.add("alice", "bob")
    config = {"config": {"Entrypoint": ["/bin/serve"], "Env": ["LANG=C.UTF-8"], "Labels": {"who": "<b>me</b>"}}}
    registry.push("alice/tides", "1.0", user="alice", more=config)
    registry.push("alice/tides", user="alice", architecture="arm64")
    registry.push("alice/diary", user="alice")
    registry.known.shelves.set("alice/tides", public=True, summary="Tide tables", readme="# Tides\n\nServes *tables*.")
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; skipped where neither it nor Playwright is installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
