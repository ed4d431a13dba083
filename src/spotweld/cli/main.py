"""The program ``spotweld``. A verb's module is imported when the verb is called, and not before."""

from __future__ import annotations

import importlib
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from spotweld.errors import Unexpected, UsageError
from spotweld.project.words import nearest, quoted
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

VERBS = {
    "init": "Write a commented project file to start from.",
    "doctor": "Say what is here, what is missing, and how to get it.",
    "config": "Show the settings and where each comes from.",
    "setup": "Make what the project's images need, and look at what is there.",
    "build": "Build the project's images; what is fresh is not touched.",
    "plan": "Say what launch would do, and what it would cost; exit 2 if anything.",
    "launch": "Run a job until it is done, whatever happens to its machines.",
    "pool": "Keep machines ready, so that a run begins at once.",
    "budget": "Say how budgets stand; stop runs of those that are broken.",
    "watch": "Follow a run live.",
    "status": "List runs and how they stand.",
    "logs": "Print what a run's program wrote.",
    "simulate": "Say what policies would have paid on recorded markets.",
    "cost": "Say what machines cost: what to commit to.",
    "preempt": "Take a run's machine away, as its provider would: a drill.",
    "rehearse": "Fire drills at a run, and follow it: does it survive?",
    "cancel": "Stop a run for good.",
    "report": "Write a run's story as one HTML file.",
    "checkpoint": "List, verify, compare, export and import checkpoints.",
    "teardown": "Remove machines and ephemeral images; say what stays, and why.",
    "cache": "Look at what is cached of images; forget, fetch or copy it.",
    "explain": "Explain an error code, or why an image's layers would be built.",
    "completion": "Print a shell's completion script.",
}
"""Each verb's one line; the verb itself is ``command`` in the module of its name."""


class Program(click.Group):
    """A group whose verbs are imported on demand and whose failures end in three short lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in VERBS:
            return None
        found: click.Command = importlib.import_module(f"spotweld.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not ctx.resilient_parsing:
            near = nearest(args[0], VERBS)
            todo = f"did you mean: spotweld {near}?" if near else "see: spotweld --help"
            raise UsageError(f"there is no verb {quoted(args[0])}", "", todo)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only when a shell asks

        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(verb, help=VERBS[verb]) for verb in VERBS if verb.startswith(incomplete)] + options

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            gone = [stream for stream in (sys.stdout, sys.stderr) if _reader_is_gone(stream)]
            if not gone:
                raise Unexpected("Spotweld failed: a connection was closed", str(error)) from error
            # The interpreter flushes them once more at exit, and would complain.
            for stream in gone:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            ctx.exit(141)
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> Any:  # noqa: ANN401 - as above
        words = list(sys.argv[1:] if args is None else args)
        try:
            result = super().main(words, prog_name or "spotweld", complete_var, standalone_mode=False, **extra)
        except click.Abort:
            sys.exit(130)
        except Exception as error:  # noqa: BLE001 - the last line of defence: nobody should see a traceback unasked
            from spotweld.cli.failures import report  # noqa: PLC0415 - only when something fails

            sys.exit(report(error, as_json="--json" in words))
        if not standalone_mode:
            return result
        sys.exit(result if isinstance(result, int) else 0)


def _reader_is_gone(stream: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):
        return False
    return bool(poll.poll(0))


@click.group(
    "spotweld", cls=Program, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "-C",
    "--project",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The project file, or a folder in its project.",
)
@click.version_option(VERSION, prog_name="spotweld", message="%(prog)s %(version)s")
@click.pass_context
def program(context: click.Context, project: Path | None) -> None:
    """Spotweld runs training jobs on machines that may be taken away, and loses nothing.

    Begin with: spotweld init
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return
    from spotweld.cli.session import Session  # noqa: PLC0415 - reads YAML; --help has no need of it

    context.obj = Session(project=project)


def main() -> None:
    """Run the command line and exit."""
    _fill_gaps()
    program.main()


def _fill_gaps() -> None:
    """Put nothing in the place of each standard stream that the caller has closed.

    Otherwise Python has no object for it, and the next file that is opened gets its number: what a library or a child
    writes on stderr would land in the event log, for example.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Numbers are given out from the lowest, so it is that of the stream.
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - as long as the process lives
