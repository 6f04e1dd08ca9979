"""Trees of files that come from outside: what clients send, archives, downloads, checkouts; each with an index."""
