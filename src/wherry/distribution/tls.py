"""TLS with a registry: certificates as Docker files them, `certs.d/<host:port>/*.crt`, `*.cert` with its `*.key`."""

import os
import ssl

from wherry.errors import InvalidArgument


def context(host: str, directories: tuple[str, ...], *, verify: bool) -> ssl.SSLContext:
    """Make the context for `host` (with port).

    Args:
        directories: where directories named for hosts lie; the first that has this one counts.
        verify: whether the server must prove who it is.

    Raises:
        InvalidArgument: a certificate without key, or a file that is none.
    """
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    directory = next((found for found in (f"{d}/{host}" for d in directories) if os.path.isdir(found)), None)
    if directory is None:
        return made
    names = sorted(os.listdir(directory))
    for name in names:
        path = f"{directory}/{name}"
        try:
            if name.endswith(".crt"):
                made.load_verify_locations(path)
            elif name.endswith(".cert"):
                key = name.removesuffix(".cert") + ".key"
                if key not in names:
                    raise InvalidArgument(
                        f"missing key {key} for client certificate {name}. CA certificates must use the extension .crt"
                    )
                made.load_cert_chain(path, f"{directory}/{key}")
            elif name.endswith(".key") and name.removesuffix(".key") + ".cert" not in names:
                raise InvalidArgument(f"missing client certificate {name.removesuffix('.key')}.cert for key {name}")
        except (ssl.SSLError, OSError) as error:
            raise InvalidArgument(f"{path}: {error}") from None
    return made
