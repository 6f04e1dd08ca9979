"""Read a form that a stranger sent."""

import zlib
from typing import Final

from aiohttp import web

from wherry.errors import InvalidArgument

_CHARSETS: Final = ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1")


async def read_form(request: web.Request) -> dict[str, str]:
    """Read the fields of a form, without its files.

    Raises:
        InvalidArgument: it is not a form, or breaks the rules of its kind.
    """
    try:
        if (request.charset or "utf-8").lower() not in _CHARSETS:
            raise InvalidArgument("the form is not UTF-8")
        posted = await request.post()
    except (ValueError, LookupError, AssertionError, RuntimeError, TypeError, zlib.error):
        # what aiohttp raises for multipart bodies without a boundary, a name or an end, and for unknown encodings
        raise InvalidArgument("the form cannot be read") from None
    return {key: value for key, value in posted.items() if isinstance(value, str)}
