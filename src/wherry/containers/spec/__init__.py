"""From what a user asked for to an OCI runtime configuration (runtime-spec 1.2); values in, values out."""
