"""Our files follow FOCUS; broken ones are told by row and column."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.costs.test_ledger import usage, usages

from spotweld.costs.focus import COLUMNS, write_csv
from spotweld.costs.focusrules import COLUMNS as RULES
from spotweld.costs.ledger import ledger
from spotweld.costs.validating import Breach, validate_csv, validate_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.costs.usage import Usage


def written(many: Iterable[Usage]) -> str:
    file = io.StringIO(newline="")
    write_csv(ledger(many), file)
    return file.getvalue()


def check(text: str) -> list[Breach]:
    return list(validate_csv(io.StringIO(text, newline="")))


@given(st.lists(usages, max_size=4), st.sampled_from(["local", "aws"]), st.booleans())
def test_every_ledger_follows_focus(many: list[Usage], provider: str, taken: bool) -> None:
    billed = [replace(one, offer=replace(one.offer, provider=provider), taken=taken) for one in many]
    assert check(written(billed)) == []


GOOD = [dict(line) for line in csv.DictReader(io.StringIO(written([usage(lost=900)]), newline=""))]


def csv_of(rows: list[dict[str, str]]) -> str:
    file = io.StringIO(newline="")
    out = csv.writer(file, lineterminator="\n")
    out.writerow(rows[0])
    out.writerows(row.values() for row in rows)
    return file.getvalue()


def json_of(rows: list[dict[str, str]]) -> str:
    return json.dumps([{column: cell or None for column, cell in row.items()} for row in rows])


BROKEN = [
    ("BilledCost", "", "null"),
    ("BilledCost", "1e-3", "no decimal number"),
    ("BilledCost", "1E+3", "no decimal number"),
    ("BilledCost", "1E9999", "no decimal number"),
    ("BilledCost", "NaN", "no decimal number"),
    ("BilledCost", "+1", "no decimal number"),
    ("BilledCost", "1,5", "no decimal number"),
    ("BilledCost", "$1", "no decimal number"),
    ("BillingAccountId", "", "null"),
    ("BillingCurrency", "usd", "currency code"),
    ("BillingCurrency", "Dollar", "currency code"),
    ("ChargeCategory", "usage", "none of"),
    ("ChargeClass", "Normal", "none of"),
    ("ChargeFrequency", "Hourly", "none of"),
    ("ChargePeriodStart", "2023-11-14T22:00:00", "UTC"),
    ("ChargePeriodStart", "2023-11-14T22:00:00+00:00", "UTC"),
    ("ChargePeriodStart", "2023-11-14 22:00:00Z", "UTC"),
    ("ChargePeriodStart", "2023-13-14T22:00:00Z", "UTC"),
    ("ChargePeriodStart", "2023-12-01T00:00:00Z", "outside the billing period"),
    ("ChargePeriodEnd", "2023-11-14T21:00:00Z", "before ChargePeriodStart"),
    ("ChargePeriodEnd", "2023-11-14T22:45:00Z", "in no time"),
    ("BillingPeriodEnd", "2023-11-01T00:00:00Z", "not after BillingPeriodStart"),
    ("ConsumedUnit", "", "together"),
    ("ConsumedUnit", "seconds", "no unit"),
    ("ContractedCost", "0.07500000001", "ContractedUnitPrice times PricingQuantity, 0.075"),
    ("ContractedUnitPrice", "-0.30", "below zero"),
    ("ContractedUnitPrice", "", "null in a charge"),
    ("ListCost", "1", "ListUnitPrice times PricingQuantity"),
    ("PricingCategory", "Spot", "none of"),
    ("PricingCategory", "", "null in a charge"),
    ("PricingQuantity", "", "null in a charge"),
    ("PricingUnit", "hrs", "no unit"),
    ("ResourceType", "", "together"),
    ("ServiceCategory", "Machines", "none of"),
    ("ServiceSubcategory", "Object Storage", "does not belong"),
    ("SkuPriceId", "", "null in a charge"),
    ("Tags", "team=vision", "no JSON"),
    ("Tags", "[" * 100_000, "no JSON"),
    ("Tags", '["vision"]', "no JSON object"),
    ("Tags", '{"team": {"name": "vision"}}', "no JSON object"),
    ("Tags", '{"team": "a", "team": "b"}', "more than once"),
]


@pytest.mark.parametrize(("column", "cell", "problem"), BROKEN)
@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_breach_is_told_with_its_row_and_column(column: str, cell: str, problem: str, form: str) -> None:
    rows = [GOOD[0], GOOD[1] | {column: cell}]
    found = check(csv_of(rows)) if form == "csv" else list(validate_json(json_of(rows)))
    assert {one.row for one in found} == {2}
    (named,) = (one for one in found if one.column == column)
    assert problem in str(named)


@pytest.mark.parametrize("column", sorted(name for name, rule in RULES.items() if rule.mandatory))
def test_mandatory_columns(column: str) -> None:
    rows = [{name: cell for name, cell in row.items() if name != column} for row in GOOD]
    assert Breach(0, column, "the column is missing") in check(csv_of(rows))
    assert Breach(0, column, "the column is missing") in validate_json(json_of(rows))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_numbers_in_e_notation(form: str) -> None:
    changed = {"ListUnitPrice": "2.5E-7", "PricingQuantity": "4E3", "ListCost": "0.001", "ContractedCost": "1.2E3"}
    rows = [GOOD[0] | changed]
    assert (check(csv_of(rows)) if form == "csv" else list(validate_json(json_of(rows)))) == []


def test_a_correction_may_differ_and_leave_things_out() -> None:
    changed = {"ChargeClass": "Correction", "ListCost": "-9", "ContractedUnitPrice": "", "PricingQuantity": ""}
    assert check(csv_of([GOOD[0] | changed])) == []


def test_a_tax_has_no_price_and_a_purchase_is_not_by_usage() -> None:
    none = dict.fromkeys(["ConsumedQuantity", "ConsumedUnit", *(c for c, rule in RULES.items() if rule.billed)], "")
    tax = GOOD[0] | {name: cell for name, cell in none.items() if name in GOOD[0]} | {"ChargeCategory": "Tax"}
    assert check(csv_of([tax])) == []
    (wrong,) = check(csv_of([tax | {"SkuId": "small"}]))
    assert (wrong.column, wrong.problem) == ("SkuId", "it is not null in a tax")
    purchase = GOOD[0] | {"ChargeCategory": "Purchase"}
    assert {one.column for one in check(csv_of([purchase]))} == {"ChargeFrequency", "ConsumedQuantity"}


def test_columns_that_focus_does_not_know() -> None:
    assert check(csv_of([row | {"x_Team": "a", "SubAccountId": "b"} for row in GOOD])) == []
    (wrong,) = check(csv_of([row | {"Team": "a"} for row in GOOD]))
    assert str(wrong) == "Team: FOCUS 1.2 has no such column; one of your own begins with x_"
    doubled = "\n".join(f"{line},{line.split(',')[0]}" for line in csv_of(GOOD).splitlines())
    assert check(doubled) == [Breach(0, "BilledCost", "the column is there more than once")]


def test_half_a_file() -> None:
    text = csv_of(GOOD)
    # The last line is cut off in the middle of its tags.
    (cut,) = check(text[: text.rindex("team")])
    assert cut.row == 2
    (short,) = check("\n".join([*text.splitlines()[:2], "1,2,3"]))
    assert short == Breach(2, "", f"it has 3 cells under {len(COLUMNS)} columns")
    (cut,) = validate_json(json_of(GOOD)[:-20])
    assert (cut.row, cut.column) == (0, "")
    assert "cannot be read" in cut.problem
    assert len(check("")) == sum(rule.mandatory for rule in RULES.values())


def test_json_in_lines_and_with_numbers() -> None:
    rows = json.loads(json_of(GOOD))
    lines = "\n".join(json.dumps(row) for row in rows)
    assert list(validate_json(lines)) == []
    numbers = lines.replace('"BilledCost": "0.225"', '"BilledCost": 0.225')
    assert numbers != lines
    assert list(validate_json(numbers)) == []
    (wrong,) = validate_json(lines.replace('"BilledCost": "0.225"', '"BilledCost": 2.25e-1'))
    assert (wrong.row, wrong.column) == (1, "BilledCost")
    tags = lines.replace(json.dumps(rows[0]["Tags"]), rows[0]["Tags"])
    assert tags != lines
    assert list(validate_json(tags)) == []
    rows[0]["ChargeDescription"] = "one\u2028two\x85three"
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert list(validate_json(lines + "\r\n\r\n")) == []


def test_json_says_null() -> None:
    rows = json.loads(json_of(GOOD))
    del rows[1]["ChargeClass"]
    rows[0]["ResourceId"] = ""
    found = list(validate_json(json.dumps(rows)))
    assert {(one.row, one.column) for one in found} == {(1, "ResourceId"), (1, "ResourceType"), (2, "ChargeClass")}


@pytest.mark.parametrize("content", ["{", "[1]", "3", '[{"a": 1}, 2]', "[" * 100_000])
def test_what_is_no_table_of_objects(content: str) -> None:
    (wrong,) = validate_json(content)
    assert wrong.row == 0


def test_no_rows_are_no_breach() -> None:
    assert list(validate_json("[]")) == []
    assert check(csv_of(GOOD).splitlines()[0]) == []
