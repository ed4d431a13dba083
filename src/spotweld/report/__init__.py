"""Look at what happened."""
