"""Checking a credential: what `docker login` asks an engine to do."""

from wherry.distribution import link
from wherry.distribution.credentials import Credential, server_host
from wherry.distribution.settings import Settings
from wherry.distribution.transport import refusal
from wherry.errors import InvalidArgument, Unauthorized


async def check(settings: Settings, credential: Credential) -> str:
    """Show a credential to its registry.

    Returns:
        an identity token that stands for the password from now on, or nothing where the registry gives none.

    Raises:
        Unauthorized: the registry does not take it.
        Unavailable: nobody answers.
    """
    domain = server_host(credential.server)
    if "/" in domain or not domain.isprintable():
        raise InvalidArgument(f"invalid registry address {domain!r}")
    (endpoint,) = settings.endpoints(domain, mirrors=False)
    async with await link.connect(endpoint, settings, credential, domain=domain) as found:
        url = found.transport.root.with_path(f"{endpoint.base}/", encoded=True)
        where = f'Get "{url}"'
        try:
            authorization = await found.authorizer.header("")
        except Unauthorized as error:
            raise Unauthorized(f"{where}: {error}", **error.facts) from None
        answer = await found.transport.send("GET", url, {}, authorization=authorization)
        if answer.status == 401:
            raise Unauthorized(
                f"login attempt to {url} failed with status: 401 Unauthorized", **(await refusal(answer)).facts
            )
        if answer.status != 200:
            raise await refusal(answer)
        answer.release()
        token = found.authorizer.identity_token
        return token if token != credential.identity_token else ""
