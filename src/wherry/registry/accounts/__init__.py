"""Who people are and what they may do: users, organisations, repositories' settings and members, robot tokens,
sessions, Docker's token flow. What lies in here cannot be rebuilt from the layouts on disk.

Joined to the registry in three places: `settings.AccountSettings` is the key `accounts` of the configuration,
`service.open_accounts(settings, audit)` gives the `Authorizer` (or None where there are no accounts), and
`web.routes.add_routes(app, service, accounts)` adds `/token`, `/v1/search` and the pages.
"""
