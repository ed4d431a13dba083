"""Machines that are kept ready: who keeps them, and how a run takes one."""
