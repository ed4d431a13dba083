"""A market from files, whatever their form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import UsageError
from spotweld.placement.columns import COLUMNS, decode_columns
from spotweld.placement.pricehistory import decode_price_history
from spotweld.values.recordings import FORM, content_of, decode_recording

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from spotweld.values.recordings import Recording

_FORMS = (
    f"it may be {FORM}, what aws ec2 describe-spot-price-history prints, or a .csv with columns {', '.join(COLUMNS)}"
)


def read_recordings(paths: Iterable[Path], *, inverted: bool = False) -> list[Recording]:
    """All recordings in files, and in the ``.json`` and ``.csv`` files that lie directly in folders.

    Args:
        paths: files and folders.
        inverted: in files in the form of spot-traces 1 means that nothing could be had.

    Raises:
        UsageError: one of them cannot be read, or a folder holds none.
    """
    found: list[Recording] = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in {".json", ".csv"})
            if not files:
                raise UsageError(f"the folder {path} holds no recording", "no .json and no .csv file", _FORMS)
        for file in files:
            found += _read(file, inverted=inverted)
    return found


def _read(path: Path, *, inverted: bool) -> list[Recording]:
    try:
        content = content_of(path)
        if path.suffix.lower() == ".csv":
            return decode_columns(content, path.stem)
        if b'"SpotPriceHistory"' in content[:10_000]:
            return decode_price_history(content)
        return [decode_recording(content, path.stem, inverted=inverted or None)]
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(f"the recording {path} cannot be used", str(error), _FORMS) from error
