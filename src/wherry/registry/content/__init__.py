"""Repositories as OCI layouts over a storage driver: manifests, blobs, uploads, collection. No HTTP; everything blocks."""
