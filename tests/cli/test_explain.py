"""``spotweld explain``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from spotweld.cli.main import program
from spotweld.errors import catalogue


@pytest.mark.parametrize("code", catalogue())
def test_every_code_is_explained(code: str) -> None:
    result = CliRunner().invoke(program, ["explain", code.lower()])
    assert result.exit_code == 0
    heading, _, text = result.stdout.partition("\n\n")
    assert heading.startswith(f"{code} ")
    assert len(text.split()) > 3
    assert "Args:" not in text
    assert "``" not in text
    told = json.loads(CliRunner().invoke(program, ["explain", code, "--json"]).stdout)
    assert told["code"] == code
    assert told["exit_status"] == catalogue()[code].exit_status


def test_without_a_code_all_are_listed() -> None:
    lines = CliRunner().invoke(program, ["explain"]).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(catalogue())
    listed = json.loads(CliRunner().invoke(program, ["explain", "--json"]).stdout)
    assert [row["code"] for row in listed] == list(catalogue())


def test_an_unknown_code_names_the_nearest() -> None:
    result = CliRunner().invoke(program, ["explain", "sw1102"])
    assert result.exit_code == 2
    assert "did you mean SW" in result.stderr
    assert "spotweld explain" in CliRunner().invoke(program, ["explain", "nonsense"]).stderr
