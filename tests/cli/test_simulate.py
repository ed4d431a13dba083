"""``spotweld simulate``, as a person or a script calls it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from tests.runs.pasts import Past

from spotweld.cli.main import VERBS, program
from spotweld.placement.fleetpolicies import FLEET_POLICIES
from spotweld.placement.policies import POLICIES
from spotweld.runs.events import Cause

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """A folder with a day of two zones."""
    folder = tmp_path / "traces"
    folder.mkdir()
    for zone, pattern in (("us-east-1a", [1] * 5 + [0] * 3), ("us-west-2<b>", [0] * 4 + [1] * 4)):
        metadata = {"gap_seconds": 600, "zone": zone, "start": "2025-01-01", "on_demand_price": 3.0}
        data = pattern * 18
        whole = {"metadata": metadata, "data": data, "prices": [0.5 + 0.01 * (tick % 7) for tick in range(len(data))]}
        (folder / f"{zone[:9]}.json").write_text(json.dumps(whole))
    return folder


def call(*words: object) -> Result:
    return CliRunner().invoke(program, ["simulate", *map(str, words), "--progress", "quiet"])


JOB = ("--work", "4h", "--deadline", "6h", "--changeover", "8m 4m")


def test_a_table_of_all_policies(traces: Path) -> None:
    result = call(traces, *JOB, "--starts", 5)
    assert result.exit_code == 0, result.output
    heading, optimum, *rows = result.stdout.splitlines()
    assert heading.split()[:2] == ["policy", "cost"]
    assert optimum.split()[0] == "optimum"
    assert [row.split()[0] for row in rows] == list(POLICIES)
    assert "5 jobs in 2 zones" in result.stderr


def test_json_has_every_job_and_the_same_seed_gives_the_same(traces: Path) -> None:
    words = (traces, *JOB, "--starts", 7, "--policy", "greedy,on-demand", "--cadence", "30m", "--json")
    first, again, other = call(*words, "--seed", 3), call(*words, "--seed", 3), call(*words, "--seed", 4)
    assert first.stdout == again.stdout != other.stdout
    found = json.loads(first.stdout)
    assert found["task"]["changeover"] == 720
    assert found["market"]["zones"] == ["us-east-1a", "us-west-2<b>"]
    assert found["optimum"]["exact"] is True
    assert [policy["policy"] for policy in found["policies"]] == ["greedy", "on-demand"]
    assert len(found["jobs"]) == 7
    for job in found["jobs"]:
        assert job["begins"].startswith("2025-01-0")
        for outcome in job["policies"].values():
            assert outcome["cost"] == pytest.approx(outcome["ratio"] * job["optimum"])
            assert outcome["ratio"] >= 1
            assert not outcome["missed"]
    mean = sum(job["policies"]["greedy"]["cost"] for job in found["jobs"]) / 7
    assert found["policies"][0]["cost"] == pytest.approx(mean)


def test_every_option_counts(traces: Path) -> None:
    def cost(*words: object) -> float:
        result = call(traces, *JOB, "--policy", "greedy", "--json", *words)
        assert result.exit_code == 0, result.output
        found: float = json.loads(result.stdout)["policies"][0]["cost"]
        return found

    plain = cost()
    assert cost("--gang", 2) == pytest.approx(4.2 * 3 * 2)
    assert cost("--max-price", 0.4) == pytest.approx(4.2 * 3)
    assert cost("--size", "100GB", "--egress", 0.1) > plain
    assert cost("--cadence", "3h") > plain
    assert cost("--inverted") != plain


def test_a_gang_that_no_zone_ever_has_room_for_is_noted(traces: Path) -> None:
    assert "room" not in call(traces, *JOB, "--policy", "greedy").stderr
    noted = "note: no zone ever has room for 4 at once, so all is on demand: the most is 1"
    assert noted in call(traces, *JOB, "--policy", "greedy", "--gang", "4").stderr


def test_egress_is_priced_by_the_gib_as_in_the_project_file(traces: Path) -> None:
    found = json.loads(call(traces, *JOB, "--policy", "greedy", "--size", "1GiB", "--egress", "2", "--json").stdout)
    assert found["task"]["size"] == 1


def test_prices_that_a_recording_lacks_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("time,capacity\n" + "".join(f"{600 * tick},{tick % 5 > 0:d}\n" for tick in range(60)))
    assert "--spot-price" in call(path, *JOB).stderr
    assert "--on-demand-price" in call(path, *JOB, "--spot-price", 1).stderr
    result = call(path, *JOB, "--spot-price", 1, "--on-demand-price", 3, "--starts", 99)
    assert result.exit_code == 0
    assert "note: only 25 different starts fit" in result.stderr


def test_what_was_mended_is_said(traces: Path) -> None:
    path = traces / "us-east-1.json"
    whole = json.loads(path.read_text())
    whole["data"][3] = None
    path.write_text(json.dumps(whole))
    assert "note: us-east-1a: data: 1 of 144 are null, the first at 3" in call(traces, *JOB).stderr


def test_the_projects_own_past_is_a_market(tmp_path: Path) -> None:
    def simulated(*words: str) -> Result:
        return CliRunner().invoke(program, ["-C", str(tmp_path), "simulate", *words, *JOB, "--progress", "quiet"])

    (tmp_path / "spotweld.yaml").write_text("name: own\njobs: {train: {command: 'true'}}\n")
    empty = simulated("--past")
    assert empty.exit_code == 2
    assert "no runs yet" in empty.stderr
    assert not (tmp_path / ".spotweld").exists()
    past = Past(tmp_path / ".spotweld" / "events.db", time.time() - 40 * 3600)
    for at in range(0, 40, 4):
        past.attempt("r", at, at + 3, Cause.PREEMPTED, price="1.00")
    found = simulated("--past", "--starts", "5", "--policy", "greedy", "--json")
    assert found.exit_code == 0, found.output
    assert "note: a: 100% of its time was observed, in 10 attempts" in found.stderr
    market = json.loads(found.stdout)["market"]
    assert market["zones"] == ["a"]
    assert market["notes"][0] == "the past of cloud machine in USD, 1d 15h of it in 10 attempts"
    assert "too short" in simulated("--past", "--since", "5h").stderr
    assert "no past" in simulated("--past", "--since", "10m").stderr
    for words in ((), ("--past", str(tmp_path))):
        assert "say --past" in simulated(*words).stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--deadline", "4h"), "cannot be met"),
        (("--deadline", "9d"), "too short"),
        (("--policy", "greedi"), "did you mean greedy?"),
        (("--work", "soon"), "not a duration"),
        (("--size", "large"), "size"),
        (("--starts", "0"), "starts"),
        (("--spot-price", "-1"), "spot-price"),
        (("--spot-price", "nan"), "'--spot-price': nan: a price lies between 0"),
        (("--on-demand-price", "inf"), "'--on-demand-price': inf: a price lies between 0"),
        (("--max-price", "nan"), "'--max-price': nan: a price lies between 0"),
        (("--egress", "nan"), "'--egress': nan: a price lies between 0"),
        (("--plot", "picture.png"), "FILE.svg"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(traces: Path, words: tuple[str, ...], why: str) -> None:
    result = call(traces, *JOB, *words)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_picture_needs_nothing_else(traces: Path, tmp_path: Path) -> None:
    for name in ("picture.svg", "picture.html"):
        result = call(traces, *JOB, "--starts", 9, "--plot", tmp_path / name)
        assert f"the picture is written: {tmp_path / name}" in result.stderr
    svg = ET.fromstring((tmp_path / "picture.svg").read_text())
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(svg.findall(".//{*}circle[@class='job']")) == 9 * len(POLICIES)
    page = (tmp_path / "picture.html").read_text()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert page.count("<circle") == 9 * len(POLICIES)
    assert "<script" not in page
    assert call(traces, *JOB, "--plot", tmp_path / "missing" / "a.svg").exit_code == 2


def test_names_from_recordings_are_no_markup(traces: Path, tmp_path: Path) -> None:
    call(traces / "us-west-2.json", *JOB, "--starts", 2, "--plot", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "us-west-2&lt;b&gt;" in page
    assert "us-west-2<b>" not in page


def test_no_verb_needs_numpy_to_be_imported() -> None:
    code = (
        "import importlib, sys\nfrom spotweld.cli.main import program\n"
        f"for verb in {list(VERBS)}: importlib.import_module('spotweld.cli.' + verb)\n"
        "try: program.main(['simulate', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120, capture_output=True)


SERVICE = ("--replicas", 2, "--cold-start", "90s")


def test_replicas_as_a_table(traces: Path) -> None:
    result = call(traces, *SERVICE)
    assert result.exit_code == 0, result.output
    heading, *rows = result.stdout.splitlines()
    assert heading.split()[:2] == ["policy", "enough"]
    assert [row.split()[0] for row in rows] == list(FLEET_POLICIES)
    assert "100.000 %" in rows[-1]
    assert "all 3 replicas are taken to fit" in result.stderr
    assert "2 replicas and 1 spare for 1.0 days in 2 zones" in result.stderr


def test_replicas_as_json(traces: Path) -> None:
    words = (traces, *SERVICE, "--policy", "ours,on-demand", "--spare", 2, "--per-zone", 1, "--json")
    first = call(*words)
    assert first.stdout == call(*words).stdout
    found = json.loads(first.stdout)
    assert found["service"] == {"target": 2, "spare": 2, "cold_start": 90.0}
    ours, firm = found["policies"]
    assert 0 < ours["cost"] < firm["cost"] == pytest.approx(2 * 3.0 * 24)
    assert firm["availability"] == 1.0
    assert "taken to fit" not in first.stderr


@pytest.mark.parametrize("name", ["ready.svg", "ready.html"])
def test_replicas_as_a_picture(traces: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    result = call(traces, *SERVICE, "--plot", path)
    assert result.exit_code == 0, result.output
    text = path.read_text()
    for policy in FLEET_POLICIES:
        assert f">{policy}</text>" in text
    if path.suffix == ".svg":
        kinds = [rect.get("class") for rect in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}rect")]
        assert {"spot", "firm", "short", "frame"} == set(kinds)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SERVICE, "--work", "4h"), "--work does not fit here"),
        ((*SERVICE, "--seed", 3), "--seed does not fit here"),
        ((*JOB, "--spare", 2), "--spare does not fit here"),
        (("--work", "4h"), "--deadline is missing"),
        ((), "--replicas 3"),
        ((*SERVICE, "--policy", "greedy"), "for replicas"),
    ],
)
def test_a_job_or_replicas(traces: Path, words: tuple[object, ...], said: str) -> None:
    result = call(traces, *words)
    assert result.exit_code == 2
    assert said in result.stderr
