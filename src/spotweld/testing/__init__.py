"""Fakes for testing an integration with Spotweld, as we test our own."""
