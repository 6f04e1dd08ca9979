"""The Dockerfile language: from bytes to typed instructions and stages. Pure text work: no files, clocks or asyncio.

`lexer` → `parser` → `instructions` (of `commands`) → `stages`, `variables`; beside them what Go and shells say of words
and patterns (`shellwords`, `shellpatterns`), which is interface too.
"""
