"""Prove that a job survives before money is spent."""
