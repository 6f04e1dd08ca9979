"""The registry client: distribution-spec over aiohttp. It knows no store; `images/` joins it with one."""
