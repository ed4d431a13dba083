"""Spotweld: interruptible machines made dependable."""

from spotweld.version import VERSION

__version__ = VERSION
