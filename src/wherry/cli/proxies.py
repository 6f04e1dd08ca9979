"""`proxies` of Docker's `config.json`: the variables that `run`, `create` and `build` give to what they start.

They are the user's, not the image's: `build` hands them over as arguments, which no history shows.
"""

from wherry.cli.credentials import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


def variables(host: str, given: "Iterable[str]" = ()) -> "dict[str, str]":
    """What the file says for an engine, in capitals and in small letters; what is given already is left out.

    Args:
        host: the engine's address, `unix:///run/wherry/wherry.sock`.
        given: variables as of `-e`, `NAME=value` or `NAME`.
    """
    known = Config().section("proxies")
    chosen = known.get(host) or known.get("default")
    if not isinstance(chosen, dict):
        return {}
    taken = {entry.partition("=")[0] for entry in given}
    found = {}
    for key, name in _NAMES.items():
        value = chosen.get(key)
        if value and isinstance(value, str):
            found.update({spelled: value for spelled in (name, name.lower()) if spelled not in taken})
    return found
