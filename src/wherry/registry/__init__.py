"""wherry-registry: an OCI distribution registry. A product of its own: it imports `oci`, `linux` and floor 0 only."""
