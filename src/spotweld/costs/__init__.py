"""What was spent, on what, and which part of it was lost work."""
