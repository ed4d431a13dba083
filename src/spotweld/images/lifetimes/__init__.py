"""What lasts: setting up, tearing down, and old builds that go."""
