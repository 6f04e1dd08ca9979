"""Pages over plain HTTP: what they show to whom, and that forms are protected."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.registry_accounts.serving import PASSWORD, Answer, Registry


class Visit:
    """A browser without scripts: cookies, and the token of forms."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request with the cookies."""
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.registry.ask(method, path, body=body, **headers)
        for name, value in re.findall(r"(wherry_\w+)=([^;]*)", answer.headers.get("set-cookie", "")):
            self.cookies[name] = value.strip('"')
        return answer

    def get(self, path: str) -> Answer:
        """A page."""
        return self.ask("GET", path)

    def send(self, page: str, to: str = "", headers: Any = None, **fields: str) -> Answer:
        """Fill the form of a page."""
        found = re.search(r'name="form_token" value="(\w+)"', self.get(page).text)
        fields = {"form_token": found[1] if found else "", **fields}
        kind = {"Content_Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.ask("POST", to or page, urlencode(fields).encode(), **kind)

    def sign_in(self, name: str) -> "Visit":
        """Sign in with the password that all have."""
        assert self.send("/sign-in", name=name, password=PASSWORD).status == 303
        return self


@pytest.fixture
def anybody(site: Registry) -> Visit:
    """Somebody who is not signed in."""
    return Visit(site)


@pytest.fixture
def alice(site: Registry) -> Visit:
    """Alice."""
    return Visit(site).sign_in("alice")


def test_everything_reads_without_scripts(anybody: Visit) -> None:
    """Search, repository, tags and tag have all they show in the HTML itself."""
    assert "alice/" in anybody.get("/").text and "Tide tables" in anybody.get("/search?q=tide").text
    page = anybody.get("/r/alice/tides").text
    assert "<em>tables</em>" in page and "docker pull" in page and "linux/arm64" in page
    tag = anybody.get("/r/alice/tides/-/tag/1.0").text
    assert "/bin/serve" in tag and "COPY part-1" in tag and "linux/amd64" in tag and "LANG=C.UTF-8" in tag
    assert "<b>me</b>" not in tag
    assert "1.0" in anybody.get("/r/alice/tides/-/tags?t=1.").text


def test_private_is_not_there_for_others(anybody: Visit, site: Registry) -> None:
    """A private repository answers as one that does not exist, on every page of it."""
    bob = Visit(site).sign_in("bob")
    for path in ("", "/-/tags", "/-/tag/latest", "/-/settings", "/-/members", "/-/tokens", "/-/delete"):
        for visit in (anybody, bob):
            hidden, missing = (visit.get(f"/r/alice/{name}{path}") for name in ("diary", "nodiary"))
            assert hidden.status == missing.status and hidden.status in (303, 404), path
            assert (
                hidden.text.replace("nodiary", "diary") == missing.text.replace("nodiary", "diary")
                or hidden.status == 303
            )
    for visit in (anybody, bob):
        assert "diary" not in visit.get("/").text + visit.get("/u/alice").text + visit.get("/search?q=e&part=1").text
    for path in ("/-/settings", "/-/members", "/-/tokens", "/-/delete", "/-/tag/1.0/delete"):
        assert bob.get(f"/r/alice/tides{path}").status == 403, path


def test_nobody_learns_who_has_an_account(anybody: Visit, site: Registry) -> None:
    """A user without anything public looks to strangers as one who does not exist."""
    site.add("hermit")
    there, missing = anybody.get("/u/hermit"), anybody.get("/u/hermat")
    assert there.status == missing.status == 404
    assert there.text.replace("hermit", "hermat") == missing.text
    assert Visit(site).sign_in("bob").get("/u/hermit").status == 200


def test_headers_keep_scripts_and_frames_out(anybody: Visit) -> None:
    """The policy allows our own style and script, and nothing inline; no page is framed or kept."""
    for path in ("/", "/r/alice/tides", "/sign-in", "/nothing/here"):
        answer = anybody.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", answer.text), path


def test_cookies_are_out_of_reach(site: Registry) -> None:
    """Session cookies are HttpOnly and SameSite; the value is not what the database keeps."""
    visit = Visit(site)
    answer = visit.send("/sign-in", name="alice", password=PASSWORD)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert visit.cookies["wherry_session"].encode() not in (site.root / "accounts.db").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {"form_token": ""}},
        {"fields": {"form_token": "0" * 64}},
        {"headers": {"Origin": "http://evil.example"}},
        {"headers": {"Origin": "null"}},
        {"headers": {"Sec_Fetch_Site": "cross-site"}},
        {"headers": {"Sec_Fetch_Site": "same-site"}},
    ],
)
def test_forms_of_other_sites_are_refused(site: Registry, change: dict[str, dict[str, str]]) -> None:
    """A form without its token, or from elsewhere, changes nothing; neither does one that signs in."""
    alice = Visit(site).sign_in("alice")
    fields, headers = change.get("fields", {}), change.get("headers", {})
    assert alice.send("/new", headers=headers, name="forged", namespace="alice", **fields).status == 403
    assert site.known.shelves.find("alice/forged") is None
    assert Visit(site).send("/sign-in", headers=headers, name="alice", password=PASSWORD, **fields).status == 403


def test_another_ones_form_token_is_no_use(site: Registry) -> None:
    """The token of one session does not pass in another."""
    bob, alice = Visit(site).sign_in("bob"), Visit(site).sign_in("alice")
    found = re.search(r'name="form_token" value="(\w+)"', bob.get("/new").text)
    assert found is not None
    assert alice.send("/new", name="forged", namespace="alice", form_token=found[1]).status == 403


def test_sign_in_says_the_same_for_all_and_leads_nowhere_else(site: Registry) -> None:
    """Wrong names and wrong passwords look alike; `next` stays on this site."""
    texts = set()
    for name in ("alice", "nobody"):
        answer = Visit(site).send("/sign-in", name=name, password="wrong password")
        assert answer.status == 400
        texts.add(re.sub(r'value="[^"]*"', "", answer.text))
    assert len(texts) == 1
    for evil in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
    ):
        answer = Visit(site).send("/sign-in", name="alice", password=PASSWORD, next=evil)
        assert answer.headers["location"] == "/", evil
    answer = Visit(site).send("/sign-in", name="alice", password=PASSWORD, next="/r/alice/diary")
    assert answer.headers["location"] == "/r/alice/diary"


def test_life_of_a_repository(site: Registry) -> None:
    """Create, describe, share, make a token, revoke it, delete a tag, delete all: each acts on clients at once."""
    alice = Visit(site).sign_in("alice")
    assert alice.send("/new", namespace="alice", name="boat", summary="A boat", visibility="private").status == 303
    assert alice.send("/new", namespace="alice", name="boat").status == 400
    assert alice.send("/new", namespace="bob", name="boat").status == 400
    assert alice.send("/new", namespace="alice", name="Bad Name").status == 400
    assert "Nothing pushed yet" in alice.get("/r/alice/boat").text
    site.push("alice/boat", "one", user="alice")
    site.push("alice/boat", "two", user="alice", architecture="arm64")
    assert site.ask("GET", "/v2/alice/boat/tags/list", user="bob").status == 404

    assert alice.send("/r/alice/boat/-/members", user="bob", role="reader").status == 303
    assert site.ask("GET", "/v2/alice/boat/tags/list", user="bob").status == 200
    assert alice.send("/r/alice/boat/-/members", user="nobody", role="reader").status == 400
    assert alice.send("/r/alice/boat/-/members", user="bob", role="king").status == 400
    assert alice.send("/r/alice/boat/-/members", user="bob", role="").status == 303
    assert site.ask("GET", "/v2/alice/boat/tags/list", user="bob").status == 404

    page = alice.send("/r/alice/boat/-/tokens", word="ci", pull="on", lifetime="30d").text
    secret = re.search(r'data-copy="(wry_[\w-]+)"', page)
    assert secret is not None and secret[1] not in alice.get("/r/alice/boat/-/tokens").text
    who = {"user": "alice+ci", "password": str(secret[1])}
    assert site.ask("GET", "/v2/alice/boat/tags/list", **who).status == 200
    assert Visit(site).send("/sign-in", name="alice+ci", password=secret[1]).status == 400
    assert alice.send("/r/alice/boat/-/tokens", revoke="alice+ci").status == 303
    assert site.ask("GET", "/v2/alice/boat/tags/list", **who).status == 401

    changed = {"summary": "A red boat", "readme": "**red**", "visibility": "public", "immutable": "on"}
    assert alice.send("/r/alice/boat/-/settings", **changed).status == 303
    assert site.ask("GET", "/v2/alice/boat/tags/list").status == 200
    assert "<strong>red</strong>" in Visit(site).get("/r/alice/boat").text

    assert alice.send("/r/alice/boat/-/tag/one/delete").status == 403  # its tags are immutable
    assert alice.send("/r/alice/boat/-/settings", **{**changed, "immutable": ""}).status == 303
    assert alice.send("/r/alice/boat/-/tag/one/delete").status == 303
    assert site.ask("GET", "/v2/alice/boat/tags/list").json["tags"] == ["two"]
    assert alice.send("/r/alice/boat/-/delete", confirm="alice/float").status == 400
    assert alice.send("/r/alice/boat/-/delete", confirm="alice/boat").status == 303
    assert alice.get("/r/alice/boat").status == 404
    events = {entry["event"] for entry in site.audit()}
    assert events >= {
        "repository.create",
        "member.set",
        "member.remove",
        "token.add",
        "token.revoke",
        "repository.delete",
    }
    assert secret[1] not in (site.root / "audit.log").read_text()


def test_organisations(site: Registry) -> None:
    """Owners add and remove members; others see no members; the last owner stays."""
    alice, bob = Visit(site).sign_in("alice"), Visit(site).sign_in("bob")
    assert alice.send("/new-organisation", name="fleet").status == 303
    assert bob.send("/new-organisation", name="fleet").status == 400
    assert "Members" not in bob.get("/u/fleet").text
    assert bob.send("/new", "/u/fleet/members", user="bob", role="owner").status == 403
    assert alice.send("/u/fleet", "/u/fleet/members", user="bob", role="writer").status == 303
    assert bob.send("/new", namespace="fleet", name="raft", visibility="private").status == 303
    assert bob.send("/u/fleet", "/u/fleet/members", user="alice", role="").status == 403
    assert alice.send("/u/fleet", "/u/fleet/members", user="alice", role="reader").status == 409
    assert alice.send("/u/fleet", "/u/fleet/members", user="bob", role="").status == 303
    assert bob.get("/r/fleet/raft").status == 404


def test_account(site: Registry) -> None:
    """A new password ends other sessions; signing out ends this one."""
    site.add("pat")
    one, two = Visit(site).sign_in("pat"), Visit(site).sign_in("pat")
    wrong = {"do": "password", "old": "wrong password", "new": "another password"}
    assert one.send("/account", **wrong).status == 400
    assert one.send("/account", **{**wrong, "old": PASSWORD}).status == 303
    assert one.get("/account").status == 200
    assert two.get("/account").status == 303
    cookies = dict(one.cookies)
    assert one.send("/account", "/sign-out").status == 303
    one.cookies = cookies
    assert one.get("/account").status == 303


def test_sign_up_modes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Off is not there; by invitation, a code is good once; open, names of others' repositories are not to be had."""
    closed = Registry(tmp_path_factory.mktemp("closed"))
    invited = Registry(tmp_path_factory.mktemp("invited"), sign_up="invitation")
    try:
        assert Visit(closed).get("/sign-up").status == 404
        code = invited.known.sessions.invite(None)
        form = {"name": "newbie", "password": "long enough now"}
        assert Visit(invited).send("/sign-up", **form, code="guess").status == 400
        assert Visit(invited).send("/sign-up", **form, code=code).status == 303
        assert Visit(invited).send("/sign-up", **{**form, "name": "second"}, code=code).status == 400
    finally:
        closed.close()
        invited.close()


def test_open_sign_up(site: Registry) -> None:
    """Anybody may; reserved names, names with repositories left behind, and weak passwords are refused."""
    site.known.shelves.add("leftover/app", public=False)
    for name, password, status in (
        ("quinn", "long enough now", 303),
        ("quinn", "long enough now", 400),
        ("library", "long enough now", 400),
        ("leftover", "long enough now", 400),
        ("robin", "short", 400),
        ("Bad Name", "long enough now", 400),
    ):
        assert Visit(site).send("/sign-up", name=name, password=password).status == status, name


def test_odd_paths_are_pages_that_say_so(anybody: Visit) -> None:
    """What is not there is a page of ours, and never an error of the server."""
    for path in (
        "/r/", "/r/UPPER", "/r/a//b", "/r/alice/tides/-/", "/r/alice/tides/-/nothing", "/r/alice/tides/-/tag/",
        "/r/alice/tides/-/tag/none", "/r/alice/tides/-/tag/sha256:00", "/r/..%2f..%2fetc", "/u/nobody", "/u/%00",
        "/static/../site.py", "/r/alice/tides/-/tag/1.0/more", "/?page=99999999999999999999", "/search?q=%00%ff",
    ):  # fmt: skip
        answer = anybody.get(path)
        assert answer.status in (200, 400, 404), (path, answer.status)
        assert "Traceback" not in answer.text
    assert anybody.ask("POST", "/r/alice/tides").status in (403, 405)


def test_without_accounts_pages_only_show(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An open registry has pages to look at, and none to sign in or to change anything."""
    registry = Registry(tmp_path_factory.mktemp("open"), open_to_all=True)
    try:
        registry.push("some/thing")
        visit = Visit(registry)
        assert "thing" in visit.get("/").text and "thing" in visit.get("/search?q=some").text
        assert "latest" in visit.get("/r/some/thing").text and visit.get("/r/some/thing/-/tag/latest").status == 200
        for path in ("/sign-in", "/sign-up", "/new", "/account", "/u/some", "/r/some/thing/-/settings"):
            assert visit.get(path).status == 404, path
        assert "Sign in" not in visit.get("/").text
    finally:
        registry.close()
