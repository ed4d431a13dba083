"""What machines cost: a table of prices, each with its source and its age. See docs/prices.md."""
