"""The program around the verbs: help, lookups, failures, exit statuses."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

import spotweld.cli
from spotweld.cli import output
from spotweld.cli.failures import report
from spotweld.cli.main import VERBS, program
from spotweld.errors import Fenced, NoCapacity, ProjectError, StoreError
from spotweld.project.settings import Progress
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    Body = Callable[[], object]
    Put = Callable[[Body], Callable[..., Result]]

RUN = "from spotweld.cli.main import main; main()"


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Put:
    """Put a body in the place of the verb ``status`` and give back a way to call it."""

    def put(body: Body) -> Callable[..., Result]:
        command = click.Command("status", callback=body)
        monkeypatch.setitem(sys.modules, "spotweld.cli.status", SimpleNamespace(command=command))
        return lambda *words: CliRunner().invoke(program, ["status", *words])

    return put


def raising(error: BaseException) -> Body:
    def body() -> object:
        raise error

    return body


def start(code: str, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, **more)


def test_help_lists_every_verb_and_imports_none() -> None:
    code = (
        "import sys, click\nfrom spotweld.cli.main import program\n"
        "try: program.main(['--help'])\nexcept SystemExit as end: print(end.code)\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('spotweld', 'rich', 'ruamel', 'msgspec'))))"
    )
    lines = start(code).stdout.splitlines()
    for verb, line in VERBS.items():
        assert any(shown.split()[:1] == [verb] and line.split()[0] in shown for shown in lines)
    assert lines[-2] == "0"
    heavy = [name for name in lines[-1].split() if name.startswith(("rich", "ruamel", "msgspec", "spotweld.cli."))]
    assert heavy == ["spotweld.cli.main"]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_and_of_what_is_below_it_can_be_read(verb: str) -> None:
    """No mark that is meant for the formatter reaches the reader."""
    found = program.get_command(click.Context(program), verb)
    assert found is not None
    below = list(found.commands) if isinstance(found, click.Group) else []
    for words in ([verb], *([verb, one] for one in below)):
        result = CliRunner().invoke(program, [*words, "--help"])
        assert result.exit_code == 0
        assert "\\b" not in result.stdout
        assert "\b" not in result.stdout


def test_no_words_is_a_call_for_help() -> None:
    result = CliRunner().invoke(program, [])
    assert result.exit_code == 0
    assert "Verbs:" in result.stdout


def test_version() -> None:
    assert CliRunner().invoke(program, ["--version"]).stdout == f"spotweld {VERSION}\n"


def test_every_module_with_a_command_is_in_the_table() -> None:
    for found in pkgutil.iter_modules(spotweld.cli.__path__):
        module = importlib.import_module(f"spotweld.cli.{found.name}")
        command = getattr(module, "command", None)
        assert isinstance(command, click.Command) == (found.name in VERBS), found.name
        if isinstance(command, click.Command):
            assert command.help


@pytest.mark.parametrize(
    ("word", "todo"), [("lanch", "spotweld launch"), ("STATUS", "spotweld status"), ("qqq", "--help")]
)
def test_an_unknown_verb_names_the_nearest(word: str, todo: str) -> None:
    result = CliRunner().invoke(program, [word])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert todo in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_a_wrong_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(program, ["explain", "--jsn"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error SW1001: No such option")
    assert "spotweld explain --help" in result.stderr


@pytest.mark.parametrize(
    ("error", "exit_status"),
    [
        (StoreError("a", "b", "c"), 1),
        (ProjectError("a", "b", "c"), 2),
        (NoCapacity("a", "b", "c"), 5),
        (Fenced("a", "b", "c"), 75),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_three_short_lines(status: Put, error: StoreError, exit_status: int) -> None:
    result = status(raising(error))()
    assert result.exit_code == exit_status
    assert result.stdout == ""
    assert result.stderr == f"error {error.code}: a\n  b\n  c\n"


def test_a_place_is_shown_relative_to_here(status: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = status(raising(ProjectError("a", file=str(tmp_path / "x/spotweld.yaml"), line=3, column=7)))
    assert run().stderr == "error SW1101: x/spotweld.yaml:3:7: a\n"


def test_errors_are_json_for_those_who_ask_for_json(status: Put) -> None:
    @click.command()
    @click.option("--json", is_flag=True)
    def fake(*, json: bool) -> None:  # noqa: ARG001 - the option is what counts
        raise ProjectError("a", "b", "c", file="f", line=3, column=4)

    status(lambda: None)
    sys.modules["spotweld.cli.status"].command = fake
    result = CliRunner().invoke(program, ["status", "--json"])
    assert result.exit_code == 2
    told = {"code": "SW1101", "what": "a", "why": "b", "todo": "c", "file": "f", "line": 3, "column": 4}
    assert json.loads(result.stderr) == {"error": told}


def test_what_nobody_foresaw_is_one_line_and_a_way_to_more(status: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    run = status(raising(ZeroDivisionError("oh\x1b[31m no")))
    result = run()
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == r"error SW0000: Spotweld failed: ZeroDivisionError: oh\x1b[31m no"
    assert "SPOTWELD_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("SPOTWELD_DEBUG", "1")
    assert "Traceback" in run().stderr


def test_what_the_system_refuses_is_no_fault_of_ours(status: Put) -> None:
    told = status(raising(PermissionError(errno.EACCES, "Permission denied", "/some/file")))().stderr
    assert told.splitlines()[0] == 'error SW0002: "/some/file" was refused'
    assert "EACCES" in told


def test_a_full_disk_below_the_output() -> None:
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "spotweld", "--help"]
        told = subprocess.run(words, check=False, stdout=full, stderr=subprocess.PIPE)
    assert told.returncode == 1
    assert told.stderr.startswith(b"error SW0002: the system refused\n  No space left on device (ENOSPC)\n")


@pytest.mark.parametrize(("returned", "exit_status"), [(None, 0), (0, 0), (2, 2), (75, 75)])
def test_a_verb_returns_its_exit_status(status: Put, returned: int | None, exit_status: int) -> None:
    assert status(lambda: returned)().exit_code == exit_status


def test_an_interrupt_is_130(status: Put) -> None:
    result = status(raising(KeyboardInterrupt()))()
    assert result.exit_code == 130
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_leaves_is_no_error(name: str) -> None:
    code = (
        "import sys\nfrom spotweld.cli import explain, main\n"
        f"explain.command.callback = lambda **_: print('line', file=sys.{name})\nmain.main()"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {name: writer}
        told = subprocess.run([sys.executable, "-c", code, "explain"], check=False, **streams)
    finally:
        os.close(writer)
    assert told.returncode == 141
    assert not told.stdout
    assert not told.stderr


def test_a_connection_that_breaks_is_an_error(status: Put) -> None:
    result = status(raising(BrokenPipeError("the store hung up")))()
    assert result.exit_code == 1
    assert "SW0000" in result.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.is_coloured(Terminal())
    assert not output.is_coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.is_coloured(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.is_coloured(Terminal())


def test_an_error_on_a_terminal_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert report(StoreError("a"), as_json=False) == 1
    assert screen.getvalue() == "\x1b[31m\x1b[1merror\x1b[0m SW2000: a\n"


def test_auto_progress_depends_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert output.progress_mode("auto") is Progress.TTY
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert output.progress_mode("auto") is Progress.PLAIN
    for mode in ("tty", "plain", "quiet", "rawjson"):
        assert output.progress_mode(mode) == mode


def test_a_table_in_a_pipe_is_never_broken_or_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "cost"), [("[red]a[/red]" * 30, "1"), ("b", "12")], right=(1,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "cost"]
    assert lines[1].startswith("[red]a[/red]" * 30)
    assert lines[2].split() == ["b", "12"]
    assert all(line == line.rstrip() for line in lines)


def test_json_goes_to_stdout_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from decimal import Decimal
    from pathlib import Path

    from spotweld.values.money import Money

    output.print_json({"path": Path("/a"), "cost": Money(Decimal("0.10"))})
    assert capsys.readouterr().out == '{"path":"/a","cost":{"amount":"0.10","currency":"USD"}}\n'
    with pytest.raises(TypeError, match="object has no JSON form"):
        output.print_json(object())


def test_completion_scripts_are_printed() -> None:
    for shell in ("bash", "zsh", "fish"):
        result = CliRunner().invoke(program, ["completion", shell])
        assert result.exit_code == 0
        assert "_SPOTWELD_COMPLETE" in result.stdout


def test_completion_knows_the_verbs_without_importing_them() -> None:
    environ = os.environ | {"_SPOTWELD_COMPLETE": "bash_complete", "COMP_WORDS": "spotweld p", "COMP_CWORD": "1"}
    told = start(RUN, env=environ)
    assert told.stdout.split() == ["plain,plan", "plain,pool", "plain,preempt"]
    assert told.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_has_closed_is_no_error(closed: str) -> None:
    code = (
        "import os, sys\nfrom spotweld.cli import main, output\n"
        "main.program.main = lambda: (output.print_json([output.progress_mode('auto')]), print(os.open('/', 0)))\n"
        "try: main.main()\n"
        "except BaseException as error: os._exit(1)\n"
        "os._exit(0 if os.open('/', 0) > 3 else 2)"
    )
    told = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], check=False, timeout=60)
    assert told.returncode == 0
