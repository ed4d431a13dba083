"""``spotweld completion``."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash: eval "$(spotweld completion bash)"     in ~/.bashrc
    zsh:  eval "$(spotweld completion zsh)"      in ~/.zshrc
    fish: spotweld completion fish | source      in ~/.config/fish/config.fish
    """
    program = context.find_root().command
    click.echo(_SHELLS[shell](program, {}, "spotweld", "_SPOTWELD_COMPLETE").source())
