"""``spotweld budget ls`` and ``check``, of a past that is written down."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

from click.testing import CliRunner, Result
from tests.runs.pasts import Past

from spotweld.cli.main import program
from spotweld.runs.events import Cause

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = 1_762_000_000.0


def test_what_was_spent_beyond_the_amount_is_said(tmp_path: Path) -> None:
    (tmp_path / "spotweld.yaml").write_text(
        "name: own\njobs: {train: {command: 'true'}}\n"
        "budgets: {over: {amount: 40 USD}, within: {amount: 47.60 USD, stop: 100%}}\n"
    )
    past = Past(tmp_path / ".spotweld" / "events.db", BEGIN)
    past.attempt("long", 0, 95.2, Cause.DONE, "b", "0.50")
    past.log.close()

    def budget(*words: str) -> Result:
        return CliRunner().invoke(program, ["-C", str(tmp_path), "budget", *words])

    over, within = json.loads(budget("ls", "--json").stdout)
    assert (Decimal(over["overshoot"]["amount"]), over["overshoot"]["currency"]) == (Decimal("7.6"), "USD")
    assert Decimal(over["overshoot_share"]) == Decimal("0.19")
    assert (within["overshoot"], within["overshoot_share"]) == (None, None)
    said = budget("check")
    # Nothing is overshot where the whole amount is spent, to the last cent; yet runs are to be stopped.
    assert said.exit_code == 3
    assert "over: overshot by 7.60 USD (19.0% of the amount)" in said.stderr
    assert "within: overshot" not in said.output
