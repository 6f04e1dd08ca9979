"""Join accounts, search and pages to the server."""

from collections.abc import Sequence

from aiohttp import web

from wherry.registry import search
from wherry.registry.access import Authorizer
from wherry.registry.accounts import endpoint
from wherry.registry.accounts.service import Accounts, AccountsAudit, audit_path, open_accounts
from wherry.registry.config import Settings
from wherry.registry.service import SERVICE, Extension
from wherry.registry.web import routes


def joined(settings: Settings) -> tuple[Authorizer | None, Sequence[Extension]]:
    """What `server.serve` is given: who may do what (None: everybody everything), and further routes.

    Raises:
        InvalidArgument, NewerSchema: the accounts cannot be used.
    """
    accounts = open_accounts(settings)
    return (accounts.authorizer if accounts is not None else None), (lambda app: extend(app, accounts),)


def extend(app: web.Application, accounts: Accounts | None) -> None:
    """Add the routes of search, pages and, where there are accounts, tokens."""
    service = app[SERVICE]
    if accounts is not None:
        audit = AccountsAudit(audit_path(service.settings), accounts)
        service.audit = audit
        accounts.use_audit(audit)
        endpoint.add_routes(app, accounts)

        async def adopt(_: web.Application) -> None:
            # what lay on the disk before there were accounts is nobody's to read until somebody says so
            await accounts.run(lambda: accounts.shelves.adopt(service.database.versions(), public=False))

        async def close(_: web.Application) -> None:
            accounts.close()

        app.on_startup.append(adopt)
        app.on_cleanup.append(close)
    search.add_routes(app, accounts)
    routes.add_routes(app, service, accounts)
