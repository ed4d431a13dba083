"""Forms of text that more than one section of the project file takes."""

from __future__ import annotations

from spotweld.project.shapes import Text

PRINTABLE = r"[^\u0000-\u0008\u000b-\u001f\u007f]"
"""One character that is no control character, but for tabs and line ends."""

VALUE = Text(
    "text",
    "it takes text without control characters",
    '"30"',
    PRINTABLE + "*",
    longest=32_768,
    secret=True,
)
"""The value of a variable. Messages do not repeat it."""
