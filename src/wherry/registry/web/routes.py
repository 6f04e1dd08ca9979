"""The table of pages."""

from aiohttp import web

from wherry.registry.accounts.service import Accounts
from wherry.registry.service import Service


def add_routes(app: web.Application, service: Service, accounts: Accounts | None) -> None:
    """Add the pages to the application."""
    _ = (app, service, accounts)
