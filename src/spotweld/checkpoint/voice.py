"""How the engine speaks to people: through the logger ``spotweld``, which without any setting up ends on stderr."""

from __future__ import annotations


def warn(text: str) -> None:
    """One line about something that a person should know."""
    import logging  # noqa: PLC0415 - 10 ms that most runs never need

    logging.getLogger("spotweld").warning("spotweld: %s", text)
