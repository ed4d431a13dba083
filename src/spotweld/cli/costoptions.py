"""What the verbs about money have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from spotweld.values.money import parse_money

if TYPE_CHECKING:
    from spotweld.values.money import Money


def amount(text: str) -> Money:
    """An amount with its currency; without one it is USD.

    Raises:
        ValueError: it is none.
    """
    return parse_money(text if text.strip()[-3:].isalpha() else f"{text} USD")


def price(context: click.Context, parameter: click.Parameter, value: str | None) -> Money | None:
    """An option's callback: an amount with its currency; without one it is USD.

    Raises:
        BadParameter: it is none.
    """
    if value is None:
        return None
    try:
        return amount(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error
