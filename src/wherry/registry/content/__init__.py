"""Repositories as OCI layouts over a storage driver: manifests, blobs, uploads, collection. Blocks; no HTTP."""
