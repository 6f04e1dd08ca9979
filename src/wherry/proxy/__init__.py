"""HAProxy for services: what labels mean (`labels`), its configuration (`config`), its runtime API (`runtime`)."""
