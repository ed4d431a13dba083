"""AWS's spot prices, fetched from an imitation of its API (moto)."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from spotweld.cli.main import program
from spotweld.costs.prices.aws import fetch_aws
from spotweld.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION, TYPE = "us-east-1", "g4dn.xlarge"


@pytest.fixture
def _aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield
    server.stop()


def call(*words: object) -> Result:
    return CliRunner().invoke(program, [*map(str, words)])


@pytest.mark.usefixtures("_aws")
def test_a_fetched_history_is_a_price_list_and_a_market(tmp_path: Path) -> None:
    result = call("cost", "prices", "--refresh", "aws", "--region", REGION, "--type", TYPE, "--json")
    assert result.exit_code == 0, result.output
    kept = tmp_path / "data" / "spotweld" / "prices" / f"aws-{REGION}-{TYPE}.json"
    said = {row["AvailabilityZone"]: row["SpotPrice"] for row in json.loads(kept.read_bytes())["SpotPriceHistory"]}
    assert said
    found = {row["zone"]: row for row in json.loads(result.stdout)["prices"] if row["spot"]}
    assert {zone: float(row["spot"]["amount"]) for zone, row in found.items()} == {
        zone: float(price) for zone, price in said.items()
    }
    assert {row["accelerator"] for row in found.values()} == {"T4"}  # as the shipped table says
    simulated = call(
        *("simulate", kept, "--on-demand-price", 0.526, "--work", "1s", "--deadline", "2s", "--changeover", "0s"),
        *("--starts", 1, "--json"),
    )
    assert simulated.exit_code == 0, simulated.output
    assert json.loads(simulated.stdout)["market"]["zones"]


@pytest.mark.usefixtures("_aws")
def test_who_refuses_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderError, match="cannot be fetched"):
        fetch_aws(REGION, TYPE, datetime.now(UTC))


@pytest.mark.usefixtures("_aws")
def test_a_machine_that_aws_does_not_have() -> None:
    with pytest.raises(ProviderError, match="no spot prices of warp9"):
        fetch_aws(REGION, "warp9.large", datetime.now(UTC))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match="boto3") as caught:
        fetch_aws(REGION, TYPE, datetime.now(UTC))
    assert "spotweld[aws]" in caught.value.todo


def test_what_refreshing_needs() -> None:
    for words in (["--refresh", "aws", "--region", REGION], ["--refresh", "azure"]):
        result = call("cost", "prices", *words)
        assert result.exit_code == 2
        assert "needs --region" in result.stderr
