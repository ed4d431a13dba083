"""Jobs that run in images."""
