"""The API server over a fake engine: raw sockets, the docker command, docker-py."""
