"""The formats as typed values, no I/O: references, digests, manifests, image and runtime configuration, mounts."""
