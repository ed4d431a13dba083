"""Which machine to rent next: pure functions of what was observed."""
