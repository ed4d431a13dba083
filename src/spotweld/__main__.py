"""``python -m spotweld``."""

from spotweld.cli.main import main

main()
