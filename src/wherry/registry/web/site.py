"""What all pages share: templates, who visits, protection of forms, answers to what fails."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final
from urllib.parse import quote, urlsplit

import jinja2
from aiohttp import web
from markupsafe import Markup

from wherry.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unauthorized, WherryError
from wherry.registry.access import PULL
from wherry.registry.accounts import roles
from wherry.registry.accounts.authorizer import host_of, netloc_of
from wherry.registry.accounts.callers import ANYBODY, Known
from wherry.registry.accounts.people import Account
from wherry.registry.accounts.service import Accounts
from wherry.registry.accounts.standing import Standing
from wherry.registry.errors import TooManyRequests, answer_for
from wherry.registry.forms import read_form
from wherry.registry.observe import CALLER, REQUEST_ID, log, route_of
from wherry.registry.search import Search
from wherry.registry.service import Service
from wherry.registry.web import markdown
from wherry.registry.web.images import Images

SESSION: Final = "wherry_session"
VISIT: Final = "wherry_visit"
_FIELDS_MAX: Final = 200

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, forms would say that they come from nowhere
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Visitor:
    """Who looks at a page.

    Attributes:
        account: the user who is signed in, or None.
        secret: value of the cookie that forms are bound to; "" where the browser has none yet.
        fresh: a new value of that cookie, to be set with the answer.
    """

    __slots__ = ("account", "fresh", "secret")

    def __init__(self, account: Account | None, secret: str) -> None:
        self.account = account
        self.fresh = "" if secret else secrets.token_urlsafe(24)
        self.secret = secret or self.fresh

    @property
    def caller(self) -> Known:
        """The same, as the registry knows callers."""
        return Known(self.account.name, self.account) if self.account is not None else ANYBODY

    @property
    def form_token(self) -> str:
        """What a form of theirs must bring: nobody makes it who cannot read the cookie."""
        return hmac.new(self.secret.encode(), b"form", hashlib.sha256).hexdigest()


Page = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]


class Site:
    """Everything that pages need.

    Args:
        service: the registry.
        accounts: None where everybody may do everything: the pages then only show.
    """

    def __init__(self, service: Service, accounts: Accounts | None) -> None:
        self.service = service
        self.accounts = accounts
        self.search = Search(service, accounts)
        self.images = Images(service.repositories, service.database)
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("wherry.registry.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(
            size=size_text, ago=ago, day=day, markdown=lambda text: Markup(markdown.render(text)), path=path_of
        )
        self._templates.globals["version"] = _static_version()

    @property
    def known_accounts(self) -> Accounts:
        """The accounts. Raises `NotFound` where there are none: the page is then not there."""
        if self.accounts is None:
            raise NotFound("This registry has no accounts.")
        return self.accounts

    # --- who

    async def visitor(self, request: web.Request) -> Visitor:
        """Who looks."""
        secret = request.cookies.get(SESSION, "")
        if secret and self.accounts is not None:
            session = await self.accounts.memory.session(secret)
            if session is not None:
                return Visitor(session.account, secret)
        return Visitor(None, request.cookies.get(VISIT, ""))

    async def standing(self, visitor: Visitor, name: str) -> Standing:
        """What they may do with a repository; without accounts everybody reads.

        Raises:
            NotFound: they must not know of it.
        """
        if self.accounts is None:
            return Standing(roles.READER, roles.ACTIONS[roles.READER], True, True, False)
        found = await self.accounts.memory.standing(visitor.account, name)
        if PULL not in found.actions:
            raise NotFound("There is no such repository, or you may not see it.")
        return found

    def set_session(self, request: web.Request, response: web.StreamResponse, secret: str) -> None:
        """Sign the browser in; an empty secret signs it out."""
        secure = self.url(request).startswith("https:")
        if secret:
            lifetime = self.known_accounts.settings.session_lifetime
            response.set_cookie(SESSION, secret, max_age=lifetime, httponly=True, samesite="Lax", secure=secure)
        else:
            response.del_cookie(SESSION, httponly=True, samesite="Lax", secure=secure)

    # --- forms

    async def form(self, request: web.Request, visitor: Visitor) -> dict[str, str]:
        """Fields of a form that was sent from one of our pages.

        Raises:
            Forbidden: it was not.
            InvalidArgument: it cannot be read.
        """
        origin = request.headers.get("Origin")
        if origin is not None and netloc_of(origin) != netloc_of(self.url(request)):
            raise Forbidden("The form came from another site.")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Forbidden("The form came from another site.")
        try:
            posted = await read_form(request)
        except InvalidArgument:
            raise InvalidArgument("The form cannot be read.") from None
        if len(posted) > _FIELDS_MAX:
            raise InvalidArgument("The form has too many fields.")
        fields = {key: value.replace("\0", "") for key, value in posted.items()}
        given = fields.pop("form_token", "")
        if visitor.fresh or not hmac.compare_digest(given.encode(), visitor.form_token.encode()):
            raise Forbidden("The form is too old, or came from another site. Go back, reload the page and try again.")
        return fields

    # --- answers

    def url(self, request: web.Request) -> str:
        """How the browser reaches this server."""
        if self.accounts is not None:
            return self.accounts.authorizer.url(request)
        return f"{request.scheme}://{host_of(request)}"

    def render(
        self, request: web.Request, visitor: Visitor, template: str, *, status: int = 200, **values: Any
    ) -> web.Response:
        """A page."""
        url = self.url(request)
        text = self._templates.get_template(template).render(
            visitor=visitor,
            account=visitor.account,
            accounts=self.accounts is not None,
            sign_up=self.accounts.settings.sign_up if self.accounts is not None else "off",
            host=urlsplit(url).netloc,
            here=request.path_qs,
            query=request.query.get("q", "")[:200],
            **values,
        )
        response = web.Response(text=text, content_type="text/html", status=status, headers=_HEADERS)
        if visitor.fresh:
            response.set_cookie(VISIT, visitor.fresh, httponly=True, samesite="Lax", secure=url.startswith("https:"))
        return response

    def tell(self, event: str, request: web.Request, visitor: Visitor, **facts: Any) -> None:
        """Write what somebody changed to the audit log."""
        caller = visitor.account.name if visitor.account is not None else ""
        self.known_accounts.audit.record(event, caller=caller, request=request.get(REQUEST_ID, ""), **facts)

    def page(self, handler: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler of the application from one of a page: with its visitor, and what fails shown as a page."""

        async def answer(request: web.Request) -> web.StreamResponse:
            route_of(request, "page")
            visitor = await self.visitor(request)
            if visitor.account is not None:
                request[CALLER] = visitor.account.name
            try:
                return await handler(request, visitor)
            except WherryError as error:
                return self._failed(request, visitor, error)

        return answer

    def _failed(self, request: web.Request, visitor: Visitor, error: WherryError) -> web.StreamResponse:
        if isinstance(error, Unauthorized) and request.method == "GET":
            raise web.HTTPSeeOther(f"/sign-in?next={quote(request.path_qs)}")
        status, _ = answer_for(error)
        if status >= 500 and not isinstance(error, TooManyRequests):
            log.error("page failed", extra={"request": request.get(REQUEST_ID, ""), "reason": str(error)})
        message = error.message if status < 500 or status == 503 else "Something went wrong here. The log has more."
        return self.render(request, visitor, "error.html", status=status, message=message, code=status)


def see(path: str) -> web.Response:
    """Go on to another page, after a form."""
    return web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})


def local_path(path: str) -> str:
    """`path` if it leads to a page here, else `/`: what a link says must not lead elsewhere."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if plain else "/"


def signed_in(visitor: Visitor) -> Account:
    """The account of a visitor. Raises `Unauthorized` where there is none."""
    if visitor.account is None:
        raise Unauthorized("Please sign in.")
    return visitor.account


def said(error: WherryError) -> str:
    """An error's words as a sentence, for a form."""
    if isinstance(error, InvalidArgument | Conflict | NotFound | Forbidden | Unauthorized | TooManyRequests):
        text = error.message[:1].upper() + error.message[1:]
        return text if text.endswith((".", "!")) else f"{text}."
    raise error


def path_of(name: str) -> str:
    """A name as part of a path."""
    return quote(name, safe="/:@+")


def size_text(count: int) -> str:
    """Bytes as people read them, in decimal units as the docker command has them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 99.5 or unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def ago(seconds: int) -> str:
    """A time of the past in words."""
    if seconds <= 0:
        return "never"
    past = max(0, int(time.time()) - seconds)
    for unit, length in (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if past >= length:
            count = past // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def day(seconds: int) -> str:
    """A time as date and time of day, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _static_version() -> str:
    """Changes with the style and the script, so that browsers may keep them."""
    folder = resources.files("wherry.registry.web") / "static"
    data = b"".join((folder / name).read_bytes() for name in ("wherry.css", "wherry.js"))
    return hashlib.sha256(data).hexdigest()[:12]
