"""From a file to a project, or to one error with its place."""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spotweld.errors import ProjectError
from spotweld.project import nouns
from spotweld.project.reading import LARGEST, find_project, load_project
from spotweld.project.starter import starter
from spotweld.values.money import Money

FULL = """\
# yaml-language-server: $schema=.spotweld/schema.json
name: digits
store: file:.spotweld/store            # relative file: URLs are relative to the project file
providers:
  local:
    zones:
      a: {spot: 0.92 USD, on_demand: 3.06 USD, machines: 2, trace: traces/a.json}
      b: {spot: 1.01 USD, on_demand: 3.06 USD}
    seed: 7
    up: 1h
    down: 10m
    speed: 60
    notices: [30s, 20ms, none]
    boot: 500ms
images:
  trainer:
    context: src
    dockerfile: ../docker/train.Dockerfile
    args: {CUDA: "12.4"}
    bases: {"debian:bookworm": base}
    platform: linux/arm64/v8
    target: runtime
    lifetime: persistent
    keep: 7
  base: {}
registries: {persistent: https://registry.example.org:5000, ephemeral: oci:here}
jobs:
  train:
    command: python train.py
    image: trainer
    setup: pip install -r requirements.txt
    workdir: src
    env: {EPOCHS: "30"}
    spot_policy: spot
    checkpoint: {every: 100 steps, keep_last: 5, keep_every: 10, max_lost_work: 5m}
    retry: {on_events: [no-capacity, interruption], failures: 4}
    max_duration: 8h
    budget: 12.50 USD
    labels: {team: vision}
  evaluate:
    command: python evaluate.py
    work: 48h
    deadline: 60h
placement:
  policy: uniform-progress
  changeover: 5m
  zones: [us-east-1a, local/b]
  regions: [us-east-1]
  egress: none
  max_price: 1.20 USD
  min_spot_share: 0.8
"""
SMALL = "name: x\njobs:\n  t:\n    command: a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "a.json").write_text("{}")
    (tmp_path / "src").mkdir()
    (tmp_path / "docker").mkdir()
    for name in ("Dockerfile", "docker/train.Dockerfile"):
        (tmp_path / name).write_text("FROM debian:bookworm\n")
    return tmp_path


def load(folder: Path, text: str | bytes) -> nouns.Project:
    file = folder / "spotweld.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_project(file)


def refusal(folder: Path, text: str | bytes) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        load(folder, text)
    assert caught.value.file == str(folder / "spotweld.yaml")
    return caught.value


def in_job(line: str) -> str:
    return f"{SMALL}    {line}\n"


def in_local(line: str) -> str:
    return f"{SMALL}providers:\n  local:\n    {line}\n"


def test_every_key_arrives(folder: Path) -> None:
    usd = Money(Decimal("3.06"))
    assert load(folder, FULL) == nouns.Project(
        file=folder / "spotweld.yaml",
        name="digits",
        store=f"file:{folder}/.spotweld/store",
        local=nouns.LocalProvider(
            zones=(
                nouns.LocalZone("a", Money(Decimal("0.92")), usd, 2, folder / "traces/a.json"),
                nouns.LocalZone("b", Money(Decimal("1.01")), usd),
            ),
            seed=7,
            up=3600.0,
            down=600.0,
            speed=60.0,
            notices=(30.0, 0.02, None),
            boot=0.5,
        ),
        jobs={
            "train": nouns.Job(
                name="train",
                command="python train.py",
                image="trainer",
                setup="pip install -r requirements.txt",
                workdir=folder / "src",
                env={"EPOCHS": "30"},
                spot_policy=nouns.SpotUse.SPOT,
                checkpoint=nouns.CheckpointPolicy(nouns.EverySteps(100), 5, 10, 300.0),
                retry=nouns.Retry((nouns.RetryOn.NO_CAPACITY, nouns.RetryOn.INTERRUPTION), 4),
                max_duration=8 * 3600.0,
                budget=Money(Decimal("12.50")),
                labels={"team": "vision"},
            ),
            "evaluate": nouns.Job(
                name="evaluate", command="python evaluate.py", workdir=folder, work=48 * 3600.0, deadline=60 * 3600.0
            ),
        },
        placement=nouns.PlacementRules(
            policy=nouns.PolicyName.UNIFORM_PROGRESS,
            changeover=300.0,
            zones=("us-east-1a", "local/b"),
            regions=("us-east-1",),
            egress=nouns.Egress.NONE,
            max_price=Money(Decimal("1.20")),
            min_spot_share=0.8,
        ),
        images={
            "trainer": nouns.Image(
                name="trainer",
                context=folder / "src",
                dockerfile=folder / "src/../docker/train.Dockerfile",
                args={"CUDA": "12.4"},
                bases={"debian:bookworm": "base"},
                platform="linux/arm64",
                target="runtime",
                lifetime=nouns.Lifetime.PERSISTENT,
                keep=7,
            ),
            "base": nouns.Image(name="base", context=folder, dockerfile=folder / "Dockerfile"),
        },
        registries=nouns.Registries("https://registry.example.org:5000", f"oci:{folder}/here"),
    )


def test_what_is_left_out_has_the_nouns_defaults(folder: Path) -> None:
    project = load(folder, SMALL)
    assert project.local == nouns.LocalProvider()
    assert [zone.name for zone in project.local.zones] == ["a", "b", "c"]
    assert project.jobs["t"] == nouns.Job(name="t", command="a", workdir=folder)
    assert project.store == f"file:{folder}/.spotweld/store"
    assert project.state == folder / ".spotweld"


@pytest.mark.parametrize(
    ("written", "every"),
    [
        ("auto", nouns.EveryAuto()),
        ("1 step", nouns.EverySteps(1)),
        ("100 steps", nouns.EverySteps(100)),
        ("30s", nouns.EverySeconds(30.0)),
        ("1h 30m", nouns.EverySeconds(5400.0)),
    ],
)
def test_a_cadence_is_auto_or_steps_or_time(folder: Path, written: str, every: nouns.Every) -> None:
    project = load(folder, in_job(f"checkpoint: {{every: {written}}}"))
    assert project.jobs["t"].checkpoint.every == every


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("file:a/b", "file:{folder}/a/b"),
        ("file:/a/b", "file:/a/b"),
        ("file:///a/b", "file:/a/b"),
        ("file:a%20b", "file:{folder}/a%20b"),
        ("file:a b?single-writer=true", "file:{folder}/a%20b?single-writer=true"),
        ("s3://bucket/pre/fix", "s3://bucket/pre/fix"),
        ("gs://bucket", "gs://bucket"),
        ("az://container/x?single-writer=true", "az://container/x?single-writer=true"),
    ],
)
def test_file_urls_become_absolute(folder: Path, written: str, url: str) -> None:
    assert load(folder, f"store: {written}\n{SMALL}").store == url.format(folder=folder)


@pytest.mark.parametrize(
    ("text", "line", "column", "said", "todo"),
    [
        pytest.param("", 1, 1, "the file is empty", "spotweld init", id="empty"),
        pytest.param("# only a comment\n", 1, 1, "the file is empty", "spotweld init", id="comment"),
        pytest.param("- a", 1, 1, "the file holds a list", "key: value", id="list"),
        pytest.param("hello", 1, 1, 'the file holds "hello"', "key: value", id="text"),
        pytest.param("name: x", 1, 1, "jobs is missing", "add jobs", id="no jobs"),
        pytest.param("name: x\njobs: {}", 2, 7, "jobs has 0 entries", "a job", id="empty jobs"),
        pytest.param("name: x\njobs:\n", 2, 1, "jobs holds nothing", "", id="nothing in jobs"),
        pytest.param("jobs: {t: {command: a}}", 1, 1, "name is missing", "add name: digits", id="no name"),
        pytest.param("name: My Job\njobs: {t: {command: a}}", 1, 7, '"My Job" is not a name', "", id="bad name"),
        pytest.param("name: 2024\njobs: {t: {command: a}}", 1, 7, "2024 is a number", '"2024"', id="number as name"),
        pytest.param("name: x\njobs: {T: {command: a}}", 2, 8, '"T" is not a name', "", id="bad job name"),
        pytest.param("name: x\njobs: {t: {}}", 2, 11, "jobs.t has no command", "add command: python", id="no command"),
        pytest.param("name: x\njobs: {t: {command: }}", 2, 12, "command has no value", "", id="command without value"),
        pytest.param("name: x\njobs: {t: {command: ' '}}", 2, 21, "is not a command", "", id="blank command"),
        pytest.param("nmae: x\n" + SMALL, 1, 1, 'unknown key "nmae"', "did you mean name?", id="unknown at the top"),
        pytest.param(in_job("enviroment: {}"), 5, 5, 'unknown key "enviroment"', "", id="unknown in a job"),
        pytest.param(
            in_job("checkpoint: {evry: auto}"), 5, 18, 'unknown key "evry"', "mean every?", id="unknown, deep"
        ),
        pytest.param(
            in_job("xyzzy: 1"), 5, 5, 'unknown key "xyzzy"', "the keys are command", id="unknown, nothing near"
        ),
        pytest.param(in_job("deadline: 60h"), 5, 5, "deadline", "work: 48h", id="deadline of nobody knows what"),
        pytest.param(in_job("work: 2h\n    deadline: 2h"), 6, 5, "deadline", "allow more time", id="deadline too soon"),
        pytest.param(
            in_job("work: 1h\n    deadline: 2h\n    spot_policy: spot"), 7, 5, "spot_policy", "auto", id="spot alone"
        ),
        pytest.param(SMALL + "placement: {policy: our}", 5, 21, '"our"', "did you mean ours?", id="unknown policy"),
        pytest.param(SMALL + "placement: {min_spot_share: 1.5}", 5, 29, "1.5", "", id="share above all"),
        pytest.param(SMALL + "placement: {max_price: 0 USD}", 5, 24, "0 USD", "", id="price of nothing"),
        pytest.param(in_job("max_duration: 90"), 5, 19, '"90" is not a duration', "8h", id="no unit"),
        pytest.param(in_job("max_duration: 90 min"), 5, 19, '"90 min" is not a duration', "8h", id="wrong unit"),
        pytest.param(in_job("max_duration: -5m"), 5, 19, '"-5m" is not a duration', "8h", id="negative duration"),
        pytest.param(in_job("max_duration: 0s"), 5, 19, '"0s" is not a duration', "8h", id="no duration at all"),
        pytest.param(in_job(f"max_duration: {'9' * 99}d"), 5, 19, "is not a duration", "8h", id="huge duration"),
        pytest.param(in_job(f"max_duration: {'9' * 999}d"), 5, 19, "is too long", "8h", id="endless duration"),
        pytest.param(in_job("budget: 12.50"), 5, 13, '"12.50" is not an amount of money', "USD", id="no currency"),
        pytest.param(in_job("budget: 12.50 usd"), 5, 13, "is not an amount of money", "USD", id="wrong currency"),
        pytest.param(in_job("budget: 0 USD"), 5, 13, "is not an amount of money", "USD", id="no budget at all"),
        pytest.param(in_job("budget: 5 EUR"), 5, 13, "jobs.t.budget is in EUR", "in USD", id="two currencies"),
        pytest.param(in_job("spot_policy: spto"), 5, 18, '"spto" is not known', "did you mean spot?", id="wrong word"),
        pytest.param(in_job("spot_policy: [spot]"), 5, 18, "spot_policy holds a list", "", id="list for a word"),
        pytest.param(in_job("retry: {on_events: error}"), 5, 24, "not a list", "", id="word for a list"),
        pytest.param(in_job("retry: {failures: -1}"), 5, 23, "-1 is out of range", "", id="negative number"),
        pytest.param(in_job("retry: {failures: 2.5}"), 5, 23, '"2.5" is not a whole number', "", id="fraction"),
        pytest.param(
            in_job("retry: {failures: two}"), 5, 23, '"two" is not a whole number', "", id="word for a number"
        ),
        pytest.param(in_job('retry: {failures: "2"}'), 5, 23, '"2" is not a whole number', "", id="text for a number"),
        pytest.param(in_job(f"retry: {{failures: {'9' * 9999}}}"), 5, 23, "is out of range", "", id="huge number"),
        pytest.param(in_job("env: {A: 3}"), 5, 14, "env.A: its value is a number", "quotes", id="number in env"),
        pytest.param(in_job("env: {A-B: x}"), 5, 11, "is not the name of an env", "", id="bad variable"),
        pytest.param(in_job("env: {SPOTWELD_STORE: x}"), 5, 11, "is not the name of an env", "", id="our variable"),
        pytest.param(in_job('env: {A: "a\\0b"}'), 5, 14, "env.A: its value is not text", "", id="NUL in env"),
        pytest.param(in_job("labels: {Team: a}"), 5, 14, "is not a label's key", "", id="bad label key"),
        pytest.param(in_job("labels: {team: A}"), 5, 20, '"A" is not a label', "", id="bad label"),
        pytest.param(in_job("workdir: gone"), 5, 14, '"gone" does not exist', "", id="no workdir"),
        pytest.param(in_job("workdir: traces/a.json"), 5, 14, "is not a folder", "", id="file for workdir"),
        pytest.param(in_job(f"workdir: {'a/' * 9999}"), 5, 14, "does not exist", "", id="endless path"),
        pytest.param(
            in_local("zones: {a: {spot: 1 USD, on_demand: 2 USD, trace: x}}"), 7, 55, "not exist", "", id="no trace"
        ),
        pytest.param(in_local("zones: {a: {spot: 1 USD, on_demand: 2 EUR}}"), 7, 41, "is in EUR", "", id="zone in two"),
        pytest.param(in_local("zones: {}"), 7, 12, "zones has 0 entries", "a zone", id="no zones"),
        pytest.param(in_local("speed: 0"), 7, 12, "0 is out of range", "", id="no speed"),
        pytest.param(in_local("speed: 1e999"), 7, 12, "1e999 is out of range", "", id="infinite speed"),
        pytest.param(in_local("speed: .inf"), 7, 12, '".inf" is not a number', "", id="inf"),
        pytest.param(in_local("notices: []"), 7, 14, "notices has 0 values", "", id="no notices"),
        pytest.param(in_local("notices: [30s, soon]"), 7, 20, 'notices[1]: "soon"', "", id="bad notice"),
        pytest.param(in_local("seed: 1_000"), 7, 11, '"1_000" is not a whole number', "", id="underscores"),
        pytest.param("store: /tmp/x\n" + SMALL, 1, 8, "is not a store's URL", "file:", id="path for a URL"),
        pytest.param("store: memory:x\n" + SMALL, 1, 8, "is not a store's URL", "file:", id="store in memory"),
        pytest.param("store: file://host/x\n" + SMALL, 1, 8, "is not a store's URL", "file:", id="host in a file URL"),
        pytest.param("name: é\n".encode("latin-1"), 1, 7, "is not UTF-8", "save it", id="latin-1"),
        pytest.param("a: b\n\tc: d\n", 2, 1, "a tab", "spaces", id="tab"),
    ],
)
def test_one_clear_error_with_its_place(
    folder: Path, text: str | bytes, line: int, column: int, said: str, todo: str
) -> None:
    error = refusal(folder, text)
    assert (error.line, error.column) == (line, column), f"{error} / {error.todo}"
    assert said in error.what
    assert error.why
    assert error.todo
    assert todo in error.todo


def test_secrets_are_not_repeated(folder: Path) -> None:
    for text in (
        "store: s3://key:hunter2@bucket/x\n" + SMALL,
        in_job('env: {TOKEN: "hunter2\\x01"}'),
        in_job("env: {TOKEN: [hunter2]}"),
    ):
        error = refusal(folder, text)
        assert "hunter2" not in f"{error} {error.todo}"


def test_messages_cannot_steer_a_terminal(folder: Path) -> None:
    error = refusal(folder, 'name: "\\e[31m\\u202e"\njobs: {t: {command: a}}')
    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)


def test_a_byte_order_mark_is_no_error(folder: Path) -> None:
    assert load(folder, b"\xef\xbb\xbf" + SMALL.encode()).name == "x"


def test_a_large_file_is_not_read(folder: Path) -> None:
    error = refusal(folder, SMALL + "#" * LARGEST)
    assert "too large" in error.what


def test_what_is_no_file_is_refused(folder: Path) -> None:
    for path in (folder, Path("/dev/zero"), folder / "gone.yaml", folder / ("a" * 999), Path("/etc/passwd/x")):
        with pytest.raises(ProjectError) as caught:
            load_project(path)
        assert caught.value.what


def test_two_currencies_are_fine_nowhere_but_another_one_is_fine_everywhere(folder: Path) -> None:
    text = FULL.replace("USD", "EUR")
    assert load(folder, text).jobs["train"].budget == Money(Decimal("12.50"), "EUR")


def test_the_project_is_found_from_below(folder: Path) -> None:
    (folder / "spotweld.yaml").write_text(SMALL)
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    for start in (folder, deep, folder / "spotweld.yaml"):
        assert find_project(start) == folder / "spotweld.yaml"


def test_no_project_is_an_error_that_says_init(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        find_project(tmp_path)
    assert "spotweld init" in caught.value.todo


ODD = st.sampled_from(
    [
        *(
            "\t",
            "\n",
            "  ",
            ":",
            ": ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "*a",
            "&a ",
            "!!int ",
            "<<: ",
            "? ",
            "|",
            ">",
            "#",
            "'",
        ),
        *('"', "\\", "\x00", "\x85", "\u2028", "\ufeff", "\U0001f600", "~", "null", "9" * 30, "-1", ".nan", "--- "),
        *("%YAML 1.1", "...", "!<", "@", "`", "\r"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from([FULL, starter("x")]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 30)))
        piece = draw(st.one_of(ODD, st.text(max_size=5), st.just(text[end : end + 40])))
        text = text[:start] + piece + text[end:]
    return text


@settings(deadline=None, max_examples=150)
@given(mutated())
def test_a_damaged_file_gives_a_project_or_a_project_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    check_any(tmp_path_factory.getbasetemp(), text.encode(errors="surrogatepass"))


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@example(b"")
@example(b"%TAG ! tag:x,1:\n--- !a b")
@example(b"a: >999\n x")
@example(b"\xff\xfea\x00:\x00")
def test_any_bytes_give_a_project_or_a_project_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    check_any(tmp_path_factory.getbasetemp(), data)


def check_any(folder: Path, data: bytes) -> None:
    file = folder / "any.yaml"
    file.write_bytes(data)
    with suppress(ProjectError):
        load_project(file)
        return
    with pytest.raises(ProjectError) as caught:
        load_project(file)
    error = caught.value
    assert error.what
    assert error.file == str(file)
    assert len(str(error)) < 1000
    breaks = re.findall("[\n\r\x85\u2028\u2029]", data.decode("utf-8", "replace"))
    assert 0 <= error.line <= len(breaks) + 2
