"""Runs: the controller, its event log, and the agent on the machine."""
