"""Checkpoints of a process group: every rank stores its own part, one rank publishes the whole."""
