"""From a request's credential to who it is: Basic (user and password, robot and secret) and Bearer."""

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from typing import Final

from aiohttp.web import BaseRequest

from wherry.errors import Unauthorized
from wherry.registry.access import Caller
from wherry.registry.accounts.attempts import Attempts
from wherry.registry.accounts.bearer import Bearer, Claims
from wherry.registry.accounts.passwords import Passwords
from wherry.registry.accounts.people import Account
from wherry.registry.accounts.robots import PREFIX, Robot
from wherry.registry.accounts.settings import Network
from wherry.registry.accounts.standing import Memory
from wherry.registry.audit import Audit
from wherry.registry.observe import REQUEST_ID, SELDOM

_HEADER_MAX: Final = 20 << 10
WRONG: Final = "incorrect username or password"


class Known(Caller):
    """A caller with an account, a robot, or a token of nobody in particular.

    Attributes:
        account: the user; of a robot, its maker; None for nobody, and for the operator's robots.
        robot: the robot's token.
        claims: what the bearer token says; None with a password.
    """

    __slots__ = ("account", "claims", "robot")

    def __init__(
        self, name: str, account: Account | None, robot: Robot | None = None, claims: Claims | None = None
    ) -> None:
        super().__init__(name, claims.access if claims is not None else None)
        self.account = account
        self.robot = robot
        self.claims = claims


ANYBODY: Final = Known("", None)


class Callers:
    """Tells who makes a request.

    Args:
        memory: of accounts and robots.
        passwords, attempts, bearer: how credentials are checked.
        audit: where logins are written.
        proxies: networks whose forwarding headers are believed.
    """

    def __init__(
        self,
        memory: Memory,
        passwords: Passwords,
        attempts: Attempts,
        bearer: Bearer,
        audit: Audit,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._memory = memory
        self._passwords = passwords
        self._attempts = attempts
        self._bearer = bearer
        self.audit = audit
        self._proxies = proxies

    async def identify(self, request: BaseRequest) -> Known:
        """Who it is; `ANYBODY` without a credential.

        Raises:
            Unauthorized: a wrong credential.
            TooManyRequests: too many wrong ones.
        """
        header = request.headers.get("Authorization")
        if header is None:
            return ANYBODY
        scheme, _, value = header.partition(" ")
        value = value.strip()
        if scheme.lower() == "bearer":
            return await self.by_token(value)
        if scheme.lower() == "basic":
            name, password = parse_basic(value)
            return await self.login(request, name, password, quiet=True)
        raise Unauthorized("authorization: Basic or Bearer")

    async def by_token(self, token: str) -> Known:
        """Whose bearer token that is, if it is still good for the account and robot that it names.

        Raises:
            Unauthorized: it is not.
        """
        claims = self._bearer.read(token)
        account = robot = None
        if claims.account:
            account = await self._memory.account_by_id(claims.account)
            if account is None or account.serial != claims.serial:
                raise Unauthorized("the token was revoked")
        if claims.robot:
            robot = await self._memory.robot(claims.robot)
            if robot is None:
                raise Unauthorized("the token was revoked")
        return Known(claims.name, account, robot, claims)

    async def login(self, request: BaseRequest, name: str, password: str, *, quiet: bool = False) -> Known:
        """Who has that name and password, or robot's secret.

        Args:
            request: from where it comes.
            name, password: as they came.
            quiet: a right one is not written to the audit log (clients that send it with every request).

        Raises:
            Unauthorized: nobody; says the same for a wrong name, and takes as long.
            TooManyRequests: too many wrong ones, and enough attempts that wait for their turn.
        """
        address = self.address(request)
        # a robot's secret cannot be guessed: it needs no limit, and is looked up before any
        if password.startswith(PREFIX):
            robot = await self._memory.robot_by_secret(password)
            if robot is not None and robot.name == name:
                maker = await self._memory.account_by_id(robot.maker) if robot.maker is not None else None
                if not quiet:
                    self._record("login", request, name, address)
                return Known(robot.name, maker, robot)
        await self._attempts.turn(name, address)
        account = await self._memory.account(name)
        stored = account.password if account is not None and account.is_user else ""
        context = f"{account.id}.{account.serial}" if account is not None else ""
        over = self._attempts.is_over(name, address)
        right = await self._passwords.verify(stored, password, context)
        if not over:  # it has had no turn, and others may have failed meanwhile
            await self._attempts.turn(name, address)
        if not right or account is None:
            self._attempts.failed(name, address)
            if "X-Forwarded-For" in request.headers and not self.is_proxied(request):
                # if that is a proxy, all its clients are one address, and slow each other's logins down
                SELDOM.warning("X-Forwarded-For ignored: accounts.proxies does not name the sender", remote=address)
            self._record("login.failed", request, name, address)
            raise Unauthorized(WRONG)
        self._attempts.succeeded(name, address)
        if not quiet:
            self._record("login", request, name, address)
        return Known(account.name, account)

    def _record(self, event: str, request: BaseRequest, name: str, address: str) -> None:
        self.audit.record(
            event, caller=name[:130], request=request.get(REQUEST_ID, ""), address=address, path=request.path
        )

    def address(self, request: BaseRequest) -> str:
        """Address of the client: the last one of X-Forwarded-For that no believed proxy has."""
        address = request.remote or ""
        if not self._proxies or not self.is_proxied(request):
            return address
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", ())).split(",")):
            try:
                parsed = ipaddress.ip_address(hop.strip())
            except ValueError:
                break
            address = str(parsed)
            if not any(parsed in network for network in self._proxies):
                break
        return address

    def is_proxied(self, request: BaseRequest) -> bool:
        """Whether the request came through a proxy that is believed."""
        try:
            parsed = ipaddress.ip_address((request.remote or "").partition("%")[0])
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


def parse_basic(value: str) -> tuple[str, str]:
    """User name and password of a Basic credential (RFC 7617).

    Raises:
        Unauthorized: it is none.
    """
    try:
        raw = base64.b64decode(value[:_HEADER_MAX], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Unauthorized("authorization: not a Basic credential") from None
    name, colon, password = raw.partition(":")
    if not colon:
        raise Unauthorized("authorization: not a Basic credential")
    return name, password
