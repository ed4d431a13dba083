"""What is kept of finished instructions, for people who want to look at it or have it gone."""
