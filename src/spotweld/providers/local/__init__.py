"""The embedded provider: this machine, behaving like a spot cloud."""
