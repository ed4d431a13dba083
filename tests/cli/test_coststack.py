"""``spotweld cost stack``, as a person or a script calls it."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result

from spotweld.cli.main import program

PLANT = ("--clusters", "10", "--months", "3", "--head", "0.17", "--builder", "1.36")
IMAGE = ("--image", "2m-3m", "--image-size", "50GiB", "--image-price", "0.05")
CACHE = ("--cache", "10m-15m", "--cache-size", "20GiB", "--cache-price", "0.023")
THREE = (*PLANT, "--source", "4h-8h", "--build", "1h30m", *IMAGE, *CACHE)


def stack(*words: str) -> Result:
    result = CliRunner().invoke(program, ["cost", "stack", *words])
    assert "Traceback" not in result.output
    return result


def test_three_ways_beside_each_other() -> None:
    head, *lines = [re.split(r"\s{2,}", line.strip()) for line in stack(*THREE).stdout.splitlines()]
    assert head[0] == "way"
    assert [(line[0], line[1], line[6], line[8], line[9]) for line in lines] == [
        ("from source", "6h 00m", "10.20 USD", "1.02 USD", "3.40 USD"),
        ("machine image", "2m 30s", "9.61 USD", "0.9611 USD", "3.20 USD"),
        ("binary cache", "12m 30s", "3.77 USD", "0.3774 USD", "1.26 USD"),
    ]


def test_ranges_and_parts_as_json() -> None:
    source, image, _ = json.loads(stack(*THREE, "--json").stdout)["bills"]
    total = source["total"]
    assert [round(float(total[part]["amount"]), 9) for part in ("low", "expected", "high")] == [6.8, 10.2, 13.6]
    assert (source["kept"]["amount"], image["kept"]["amount"]) == ("0", "7.50")


def test_a_way_without_a_time_is_left_out_and_a_head_node_may_build() -> None:
    (line,) = stack("--clusters", "2", "--head", "1 EUR", "--build", "1h", "--cache", "0s").stdout.splitlines()[1:]
    assert re.split(r"\s{2,}", line.strip())[:3] == ["binary cache", "0 ms", "1.00 EUR"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (PLANT, "give the time of a way"),
        ((*PLANT, *IMAGE), "say how long: --build"),
        ((*PLANT, "--build", "1h", "--image", "3m-1m"), "3m is more than 1m"),
        ((*PLANT, "--source", "soon"), "4h-8h"),
        ((*PLANT, "--build", "1h", *IMAGE[:4]), "what a GiB costs in a month"),
        ((*PLANT, "--build", "1h", *IMAGE[:4], "--image-price", "1 EUR"), "one currency"),
        ((*PLANT, "--image-size", "big"), "not a size"),
        (("--clusters", "0", "--head", "1"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: tuple[str, ...], said: str) -> None:
    result = stack(*words)
    assert result.exit_code == 2
    assert said in result.stderr
