"""Images: how they come, how they are stored and named, and how they go.

Begin with `images`, one object with a method for each verb; the verbs are a file each, over what `stores` holds.
`pull` and `push` speak with registries (`distribution/`), `load`, `save` and `copy` with archives and other engines;
`fetch` and `layers` put blobs and snapshots into their places.
"""
