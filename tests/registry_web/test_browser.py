"""The pages in Chromium: scripts, keyboard, small screens, hostile content."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.registry_accounts.serving import PASSWORD, Registry

PATHS = (
    "/", "/search?q=tide", "/sign-in", "/sign-up",
    "/r/alice/tides", "/r/alice/tides/-/tags", "/r/alice/tides/-/tag/1.0",
    "/r/alice/tides/-/settings", "/r/alice/tides/-/members", "/r/alice/tides/-/tokens", "/r/alice/tides/-/delete",
    "/new", "/new-organisation", "/account", "/u/alice", "/r/nothing/here",
)  # fmt: skip


@pytest.fixture
def page(browser: Any, site: Registry) -> Iterator[Any]:
    """A tab with no cookies; what goes wrong in it fails the test."""
    context = browser.new_context(base_url=f"http://{site.host}", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and "status of 4" not in said.text else None,
    )

    def dismiss(dialog: Any) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    tab.on("dialog", dismiss)
    yield tab
    context.close()
    assert not wrong


def _sign_in(page: Any, name: str = "alice") -> None:
    page.goto("/sign-in")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_url("**/")


def test_search_as_you_type(page: Any, site: Registry) -> None:
    """The list follows what is typed, without a reload, and the address with it."""
    page.goto("/")
    page.evaluate("window.same = true")
    page.press("body", "/")
    page.keyboard.type("tid")
    page.wait_for_selector("#results .count:has-text('“tid”')")
    assert page.locator("#results .row").count() == 1
    assert page.url.endswith("/search?q=tid") and page.evaluate("window.same")
    page.keyboard.type("zzz")
    page.wait_for_selector("#results .empty-title")
    for _ in range(6):
        page.keyboard.press("Backspace")
    page.wait_for_selector("#results .count:has-text('latest push')")
    assert page.evaluate("document.activeElement.id") == "q"


def test_keyboard_alone_signs_in_and_creates(page: Any, site: Registry) -> None:
    """From the start page to a new repository without a mouse; what has the focus is always to be seen."""
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"

    def tab_to(text: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if text in page.evaluate("document.activeElement.textContent.trim()"):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"{text} is not reached by Tab")

    tab_to("Sign in")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign-in*")
    page.wait_for_selector("input:focus")
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    tab_to("New")
    page.keyboard.press("Enter")
    page.wait_for_url("**/new")
    page.wait_for_selector("input:focus")
    page.keyboard.type("keyboard-made")
    page.keyboard.press("Tab")
    page.keyboard.type("Made without a mouse")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/r/alice/keyboard-made")
    shelf = site.known.shelves.find("alice/keyboard-made")
    assert shelf is not None and shelf.public and shelf.summary == "Made without a mouse"


def test_copy_button(page: Any, site: Registry) -> None:
    """The button puts the pull command into the clipboard, and says so."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/r/alice/tides/-/tag/1.0")
    page.click(".copy-button")
    page.wait_for_selector(".copy-button:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == f"docker pull {site.host}/alice/tides:1.0"


def test_menu_opens_and_closes(page: Any) -> None:
    """The account menu works by keyboard, and Escape gives the focus back."""
    _sign_in(page)
    page.focus(".menu summary")
    page.keyboard.press("Enter")
    assert page.is_visible("text=Sign out")
    page.keyboard.press("Escape")
    assert page.is_hidden("text=Sign out")
    page.click(".menu summary")
    page.click("text=Sign out")
    page.wait_for_selector("text=Sign in")


def test_no_page_scrolls_sideways(page: Any, site: Registry) -> None:
    """Also with long names, every page fits, in the width of a phone."""
    long = "alice/" + "very-long-name-" * 8 + "end"
    if site.known.shelves.find(long) is None:
        site.push(long, "t" * 120, user="alice")
        site.known.shelves.set(long, public=True, summary="W" * 200)
    _sign_in(page)
    for path in (*PATHS, f"/r/{long}", f"/r/{long}/-/tag/{'t' * 120}", f"/r/{long}/-/tokens"):
        page.goto(path)
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)


def test_reads_without_javascript(browser: Any, site: Registry) -> None:
    """With scripts off: search by Enter, tags, a tag's layers; no button that would do nothing."""
    context = browser.new_context(base_url=f"http://{site.host}", java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.fill("#q", "tides")
    page.press("#q", "Enter")
    page.wait_for_url("**/search?q=tides")
    page.click(".row >> text=tides")
    assert page.locator(".copy-button").first.is_hidden()
    page.click(".tag-name a >> text=1.0")
    assert page.is_visible("text=COPY part-1")
    context.close()


MARKUP = "main script, main img, main iframe, main style, main base, main [onerror], main [onclick]"

HOSTILE = """
<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>
[a](javascript:alert(4)) [b](data:text/html,<script>alert(5)</script>)
[c](JaVaScRiPt:alert(6)) [d]( vbscript:x)
![e](x"onerror="alert(7)) <a href="x" onclick="alert(8)">f</a>
<iframe src="/"></iframe> <style>body{display:none}</style>
<form action="//evil.example"><input name=password></form> <base href="//evil.example"> [g](//evil.example)
```<script>
alert(9)
```
"""


def test_hostile_descriptions_and_images_are_inert(page: Any, site: Registry) -> None:
    """Nothing that a description, a config, a label, an annotation or a query says runs, loads, or becomes markup."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}"
    site.known.shelves.add("alice/evil", public=True, summary=evil)
    site.known.shelves.set("alice/evil", readme=HOSTILE)
    site.known.people.set_about("alice", evil)
    more = {
        "author": evil,
        "created": evil,
        "config": {"Env": [evil], "Cmd": [evil], "User": evil, "Labels": {evil: evil}, "ExposedPorts": {evil: {}}},
        "history": [{"created_by": evil}, {"created_by": evil, "empty_layer": True}, {"created_by": evil}],
    }
    digest = site.push("alice/evil", "v1", user="alice", more=more)
    artifact = site.image("alice/evil", user="alice", layers=1)
    artifact["artifactType"] = evil
    artifact["annotations"] = {"org.opencontainers.image.title": evil}
    artifact["layers"][0]["annotations"] = {"org.opencontainers.image.title": evil}
    artifact["config"]["mediaType"] = "application/vnd.evil"
    artifact["subject"] = {
        "mediaType": artifact["mediaType"], "digest": digest,
        "size": int(site.ask("HEAD", "/v2/alice/evil/manifests/v1", user="alice").headers["content-length"]),
    }  # fmt: skip
    raw = json.dumps(artifact).encode()
    reference = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert site.put("alice/evil", reference, artifact, user="alice").status == 201
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if site.host not in request.url else None)
    for path in (
        "/r/alice/evil", "/r/alice/evil/-/tag/v1", f"/r/alice/evil/-/tag/{reference}", "/r/alice/evil/-/tags",
        "/", "/u/alice",
        "/search?q=%3Cscript%3Ealert(1)%3C/script%3E", "/r/alice/evil/-/tag/v1?platform=%22%3E%3Cscript%3E",
        "/r/%3Cscript%3E",
    ):  # fmt: skip
        page.goto(path)
        assert page.locator(MARKUP).count() == 0
        for link in page.locator("main a").all():
            target = (link.get_attribute("href") or "").strip().lower()
            assert target.startswith(("/", "http:", "https:")), (path, target)
        assert page.locator("main .prose input, main .prose form").count() == 0
    page.goto("/")
    page.fill("#q", "<img src=x onerror=alert(1)>")
    page.wait_for_selector("#results .empty-title")
    assert page.locator("main img").count() == 0
    assert not elsewhere


def test_dark_is_dark(browser: Any, site: Registry) -> None:
    """The colours follow what the reader's system says."""
    shades = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(base_url=f"http://{site.host}", color_scheme=scheme)
        page = context.new_page()
        page.goto("/")
        shades[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        context.close()
    assert shades == {"light": "rgb(251, 250, 247)", "dark": "rgb(18, 24, 26)"}


def test_a_tokens_secret_is_shown_once(page: Any) -> None:
    """A new token is on the page that made it, and nowhere after."""
    _sign_in(page)
    page.goto("/r/alice/tides/-/tokens")
    page.fill("#word", "browser")
    page.click("text=Create token")
    secret = page.locator(".secret [data-copy^=wry_]").get_attribute("data-copy")
    assert secret and len(secret) > 40
    page.goto("/r/alice/tides/-/tokens")
    assert secret not in page.content() and "alice+browser" in page.content()
