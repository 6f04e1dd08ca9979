"""Names: the rule for those that people give, and the making of those that they do not."""

import secrets

from wherry.errors import InvalidArgument

ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")

_ADJECTIVES = (
    "able afloat amber ample balmy blithe bold brave breezy bright brisk calm candid cheery civil clear clever "
    "coastal cosy crisp daring deft eager earnest easy fair fond frank free fresh gallant gentle gleaming glad "
    "golden hale happy hardy hearty honest humble jaunty jolly keen kind light lively lucid mellow merry mild "
    "modest neat nimble noble patient placid plucky polite prime quick quiet ready robust rosy sage serene sharp "
    "shiny sleek snug sober sound spry steady stoic sunny swift tender tidy tranquil trim true upbeat valiant "
    "vivid warm wise witty zesty"
).split()
_SURNAMES = (
    "amundsen anning babbage banks barents beaufort bering bernoulli boole bougainville brahe cabot cook cousteau "
    "curie dalton darwin dias drake earhart elcano erikson euler faraday fermat fitzroy flinders franklin "
    "frobisher galilei gauss germain halley hamilton harrison herschel hopper hudson humboldt huygens joliot "
    "joule kepler kovalevskaya lagrange laplace leibniz linnaeus lovelace magellan maury maxwell mercator nansen "
    "napier newton noether ohm pascal planck polo ptolemy raleigh ramanujan ross rutherford scoresby shackleton "
    "slocum somerville tasman tereshkova torricelli turing vancouver vespucci volta wallace watt weddell wegener "
    "yonge zheng"
).split()


def check(name: str) -> str:
    """Return `name` without its leading slash.

    Raises:
        InvalidArgument: it has a character that names do not have, in dockerd's words.
    """
    bare = name.removeprefix("/")
    if len(bare) < 2 or not ALPHABET.issuperset(bare) or not bare[0].isalnum():
        raise InvalidArgument(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", kind="container", name=name
        )
    return bare


def generate(attempt: int = 0) -> str:
    """Make a name, `adjective_surname`; from the second attempt on with a digit behind it."""
    name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
    return f"{name}{secrets.randbelow(10)}" if attempt else name


def new_id() -> str:
    """Make a container or exec id: 64 hex digits, never all decimal in the first twelve (it serves as a host name)."""
    while True:
        id_ = secrets.token_hex(32)
        if not id_[:12].isdecimal():
            return id_
