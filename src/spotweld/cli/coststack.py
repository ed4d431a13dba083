"""``spotweld cost stack``."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click
import msgspec

from spotweld.cli.costoptions import price
from spotweld.cli.output import print_json, print_table
from spotweld.cli.session import json_option
from spotweld.errors import UsageError
from spotweld.values.durations import format_duration, parse_duration
from spotweld.values.money import format_money
from spotweld.values.sizes import GIB, parse_size

if TYPE_CHECKING:
    from spotweld.costs.stackestimates import Bill, Way
    from spotweld.values.money import Money

_COLUMNS = ("way", "ready after", "builds", "each cluster", "kept", "low", "expected", "high", "per cluster", "a month")


def _between(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """A duration, or two with a dash between them."""
    if value is None:
        return None
    first, dash, last = value.partition("-")
    try:
        low = parse_duration(first)
        high = parse_duration(last) if dash else low
    except ValueError as error:
        raise click.BadParameter(f"{error}; or two with a dash: 4h-8h", context, parameter) from error
    if high < low:
        raise click.BadParameter(f"{first} is more than {last}", context, parameter)
    return low, high


def _gib(context: click.Context, parameter: click.Parameter, value: str | None) -> Decimal:
    if value is None:
        return Decimal(0)
    try:
        return Decimal(parse_size(value)) / GIB
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


@click.command("stack", short_help="Compare three ways to get a software stack onto many clusters.")
@click.option("--clusters", type=click.IntRange(min=1), required=True, metavar="N", help="That are made in the term.")
@click.option("--months", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="The term.")
@click.option("--head", callback=price, required=True, metavar="PRICE", help="Of a head node's hour.")
@click.option("--builder", callback=price, metavar="PRICE", help="Of the build machine's hour; default: --head.")
@click.option("--builds", type=click.IntRange(min=1), default=1, show_default=True, help="Versions in the term.")
@click.option("--source", callback=_between, metavar="TIME", help="From source on a head node takes so long: 4h-8h.")
@click.option("--build", callback=_between, metavar="TIME", help="One version on the build machine.")
@click.option("--image", callback=_between, metavar="TIME", help="A head node boots the machine image.")
@click.option("--image-size", callback=_gib, metavar="SIZE", help="The image's.")
@click.option("--image-price", callback=price, metavar="PRICE", help="Of a GiB and month of it.")
@click.option("--cache", callback=_between, metavar="TIME", help="A head node installs from the binary cache.")
@click.option("--cache-size", callback=_gib, metavar="SIZE", help="The cache's.")
@click.option("--cache-price", callback=price, metavar="PRICE", help="Of a GiB and month of it.")
@json_option
def stack_verb(
    *,
    clusters: int,
    months: int,
    head: Money,
    builder: Money | None,
    builds: int,
    as_json: bool,
    **ways: Any,  # noqa: ANN401 - times, sizes and prices of the three ways
) -> None:
    """Compare what a software stack costs: from source on each cluster, as a machine image, from a binary cache.

    A way is compared if its time is given; the two that need a build machine need --build as well. A TIME is a
    duration, or two with a dash between them: then the middle is expected.

    \b
    The JSON: {"bills": [{"name", "once", "each", "kept", "total",
    "per_cluster", "per_month"}, ...]}; amounts are {"low", "expected",
    "high"}, "kept" is one.
    """
    from spotweld.costs.stackestimates import Plant, bill  # noqa: PLC0415 - NumPy, which --help has no need of

    plant = Plant(clusters, Decimal(months), head, builder or head, builds)
    chosen = _chosen(**ways)
    try:
        bills = [bill(plant, way) for way in chosen]
    except ValueError as error:
        raise UsageError("these prices cannot be compared", str(error), "give all of them in one currency") from error
    if as_json:
        print_json({"bills": [msgspec.structs.asdict(one) for one in bills]})
        return
    rows = [_cells(way, one) for way, one in zip(chosen, bills, strict=True)]
    print_table(_COLUMNS, rows, right=range(1, len(_COLUMNS)))


def _chosen(
    *,
    source: tuple[float, float] | None,
    build: tuple[float, float] | None,
    image: tuple[float, float] | None,
    image_size: Decimal,
    image_price: Money | None,
    cache: tuple[float, float] | None,
    cache_size: Decimal,
    cache_price: Money | None,
) -> list[Way]:
    from spotweld.costs.renewals import Range  # noqa: PLC0415 - as above
    from spotweld.costs.stackestimates import Way  # noqa: PLC0415

    def between(pair: tuple[float, float]) -> Range:
        return Range(pair[0], sum(pair) / 2, pair[1])

    if (image or cache) and build is None:
        raise UsageError("the machine image and the binary cache have to be built", "", "say how long: --build 1h30m")
    found = [] if source is None else [Way("from source", None, between(source))]
    kept = (("machine image", image, image_size, image_price), ("binary cache", cache, cache_size, cache_price))
    for name, time, size, monthly in kept:
        if time is not None and build is not None:
            found.append(Way(name, between(build), between(time), size, monthly))
    if not found:
        raise UsageError("there is nothing to compare", "", "give the time of a way: --source, --image or --cache")
    return found


def _cells(way: Way, one: Bill) -> list[str]:
    total = one.total
    amounts = (
        *(one.once.expected, one.each.expected, one.kept, total.low, total.expected, total.high),
        *(one.per_cluster.expected, one.per_month.expected),
    )
    first, *others = map(format_money, amounts)
    return [way.name, format_duration(way.readying.expected), first if way.building else "-", *others]
