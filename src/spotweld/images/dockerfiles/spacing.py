"""Spaces in a shell command that mean nothing.

A command that is wrapped at other places differs only in its spaces. The shell does not see the difference where a
space stands outside quotes, so the key does not either.
"""

from __future__ import annotations

_UNSURE = ("<<", "`", "$'", '$"')
"""Constructs in which quotes follow rules of their own. A command that has one is left as it is."""


def squeezed(command: str) -> str:
    """The command with each run of spaces outside quotes as one; unchanged where that could change what it does."""
    if any(mark in command for mark in _UNSURE):
        return command
    out: list[str] = []
    quote = ""
    chars = iter(range(len(command)))
    for at in chars:
        char = command[at]
        if quote != "'" and char == "\\":
            out.append(command[at : at + 2])
            next(chars, None)
        elif quote:
            if quote == '"' and command.startswith(("$(", "${"), at) and not _is_plain(command, at):
                return command
            quote = "" if char == quote else quote
            out.append(char)
        elif char in " \t":
            if not out or out[-1] != " ":
                out.append(" ")
        else:
            if char == "$" and command.startswith("${", at) and not _is_plain(command, at):
                return command
            quote = char if char in "'\"" else ""
            out.append(char)
    return command if quote else "".join(out).strip(" ")


def _is_plain(command: str, at: int) -> bool:
    """Whether ``${`` at this place begins a mere name."""
    inside, brace, _ = command[at + 2 :].partition("}")
    return command[at + 1] == "{" and bool(brace) and inside.isidentifier()
