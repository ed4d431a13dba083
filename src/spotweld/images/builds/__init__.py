"""Building a project's images: what is stale, in which order, what is remembered of it."""
