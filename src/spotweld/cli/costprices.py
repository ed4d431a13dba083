"""``spotweld cost prices``."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.cli.output import print_json, print_table, say, say_changed
from spotweld.cli.session import json_option, seconds
from spotweld.costs.prices.asking import keep_list, keep_prices, known_prices, name_of, price_folder
from spotweld.costs.prices.gathering import Reading
from spotweld.costs.prices.reading import not_older, read_prices
from spotweld.costs.prices.table import by_name, cheapest, find, is_old, newest
from spotweld.errors import ProviderError
from spotweld.report.words import count
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.costs.prices.table import Price
    from spotweld.values.money import Money

_COLUMNS = (
    "provider",
    "place",
    "machine type",
    "vCPUs",
    "memory",
    "accelerators",
    "on-demand",
    "spot",
    "age",
    "source",
)
_TOLD = 20


def _maybe_seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    return None if value is None else seconds(context, parameter, value)


@click.command("prices", short_help="Say what machines cost, who says so, and how old that is.")
@click.argument("lists", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--provider", metavar="NAME", help="aws, gcp, azure, ...")
@click.option("--region", metavar="NAME", help="Only prices there.")
@click.option("--zone", metavar="NAME", help="Only prices there, and those of its whole region.")
@click.option("--type", "machine_type", metavar="NAME", help="Only of this machine type.")
@click.option("--accelerator", metavar="NAME", help="Only of machines with it: A100, T4, ...")
@click.option("--cheapest", "by_price", is_flag=True, help="The cheapest first.")
@click.option("--max-age", callback=_maybe_seconds, metavar="DURATION", help="Refuse what is older, or of unknown age.")
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    metavar="DATE",
    help="When a FILE was made that does not say it, in UTC.",
)
@click.option(
    "--refresh",
    type=click.Choice(["aws", "azure", "gcp"]),
    help="Fetch and keep what this cloud asks now in --region; of AWS for one --type; gcp needs GOOGLE_API_KEY.",
)
@click.option("--keep", is_flag=True, help="Keep the prices of the FILEs: they are known from then on.")
@json_option
def prices_verb(
    lists: tuple[Path, ...],
    *,
    provider: str | None,
    region: str | None,
    zone: str | None,
    machine_type: str | None,
    accelerator: str | None,
    by_price: bool,
    max_age: float | None,
    as_of: datetime | None,
    refresh: str | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Say what machines cost per hour, who says so, and how old that is.

    Without a FILE these are the newest prices that are known: those that were kept, and the table that comes with
    Spotweld. With a FILE they are the prices in it: a catalogue of SkyPilot or gpuhunt (.csv), a pricing.yml of
    google-cloud-pricing-cost-calculator, what aws ec2 describe-spot-price-history prints (.json), or a .csv of our own.
    Rows that cannot be are refused one by one on stderr, with their place and the reason.

    An age with ! is more than 30 days, or unknown. Look such a price up before you rely on it.

    \b
    The JSON: {"prices": [{"provider": ..., "region": ..., "zone": ...,
    "machine_type": ..., "arch": ..., "vcpus": ..., "memory": ...,
    "accelerator": ..., "accelerators": ..., "on_demand": {"amount": ...,
    "currency": ...}, "spot": ..., "as_of": ..., "source": ...}, ...],
    "refused": [{"file": ..., "place": ..., "reason": ...}, ...]}
    """
    if keep and not lists:
        raise click.UsageError("--keep keeps the prices of a FILE: name one")
    now, folder = datetime.now(UTC), price_folder(os.environ)
    said = as_of.replace(tzinfo=UTC) if as_of else None
    if refresh is not None:
        _refresh(refresh, region, machine_type, folder, now)
        provider = refresh
    read = [read_prices(path, now, provider=provider, as_of=said) for path in lists]
    reading = sum(read, Reading()) if lists else known_prices(folder, now)
    if max_age is not None:
        reading = not_older(reading, timedelta(seconds=max_age), now)
    found = newest(
        find(
            reading.prices,
            provider=provider,
            region=region,
            zone=zone,
            machine_type=machine_type,
            accelerator=accelerator,
        )
    )
    found = cheapest(found) if by_price else by_name(found)
    if as_json:
        print_json({"prices": found, "refused": reading.refused})
    else:
        print_table(_COLUMNS, [_cells(price, now) for price in found], right=(3, 4, 6, 7, 8))
        _tell(reading, len(found))
    if keep:
        for path, one in zip(lists, read, strict=True):
            kept = keep_prices(one.prices, folder, name_of(one, path))
            say_changed(f"{count(len(one.prices), 'price')} kept: {kept}", "spotweld cost prices")


def _refresh(cloud: str, region: str | None, machine_type: str | None, folder: Path, now: datetime) -> None:
    from spotweld.costs.prices.azure import fetch_azure  # noqa: PLC0415 - only when asked for
    from spotweld.costs.prices.fetching import get  # noqa: PLC0415
    from spotweld.costs.prices.gcp import fetch_gcp, getter  # noqa: PLC0415

    if region is None or (cloud == "aws" and machine_type is None):
        needed = "--region and --type" if cloud == "aws" else "--region"
        raise click.UsageError(f"--refresh {cloud} needs {needed}")
    if cloud == "aws" and machine_type is not None:
        _refresh_aws(region, machine_type, folder, now)
        return
    if cloud == "gcp":
        known = known_prices(folder, now).prices
        found = fetch_gcp(getter(os.environ), region, now, known, machine_type=machine_type)
    else:
        found = fetch_azure(get, region, now, machine_type=machine_type)
    name = "-".join(filter(None, (cloud, region, machine_type)))
    kept = keep_prices(found.prices, folder, name)
    _tell(found, len(found.prices))
    say(f"{count(len(found.prices), 'price')} kept: {kept}")


def _refresh_aws(region: str, machine_type: str, folder: Path, now: datetime) -> None:
    """Spot and on-demand need a permission each, so what one of them gives is kept without the other."""
    from spotweld.costs.prices.aws import fetch_aws, fetch_aws_on_demand  # noqa: PLC0415 - only when asked for

    name = f"aws-{region}-{machine_type}"
    kept = keep_list(fetch_aws(region, machine_type, now), folder, f"{name}.json")
    say_changed(f"the price history is kept: {kept}", f"spotweld simulate {kept}")
    try:
        price = fetch_aws_on_demand(region, machine_type, now)
    except ProviderError as error:
        say(f"no on-demand price was fetched: {error}; {error.todo}")
        return
    say(f"the on-demand price is kept: {keep_prices([price], folder, name)}")


def _cells(price: Price, now: datetime) -> list[str]:
    parts = "" if price.accelerator is None else f"{price.accelerators or 1:g} x {price.accelerator}"
    age = "unknown" if price.as_of is None else format_duration(max(0.0, (now - price.as_of).total_seconds()))
    return [
        price.provider,
        price.place,
        price.machine_type,
        "unknown" if price.vcpus is None else f"{price.vcpus:g}",
        "unknown" if price.memory is None else f"{price.memory / 1024**3:g} GiB",
        parts,
        _money(price.on_demand),
        _money(price.spot),
        f"{age} !" if is_old(price, now) else age,
        price.source,
    ]


def _money(money: Money | None) -> str:
    return "unknown" if money is None else format_money(money)


def _tell(reading: Reading, shown: int) -> None:
    for refused in reading.refused[:_TOLD]:
        say(f"refused: {refused.file}: {refused.place}: {refused.reason}")
    if len(reading.refused) > _TOLD:
        say(f"and {len(reading.refused) - _TOLD} more rows were refused; --json has them all")
    say(f"{count(shown, 'price')} of {len(reading.prices)}; per machine and hour")
