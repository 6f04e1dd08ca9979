"""Builds of this engine: the builder joined with containers, images and registries. Begin with `build`.

`steps` runs a RUN as a sandbox; `caches` imports, exports and counts; `client` is the door of `wherry build`, and
`streams` its connections beside the request. What a Dockerfile means is `builder/`'s.
"""
