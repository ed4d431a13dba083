"""The example of docs/simulating.md, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "simulating.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    exec(compile(block, PAGE.name, "exec"), {})
    ratio, missed = capsys.readouterr().out.split()
    assert 1 <= float(ratio) < 1.1
    assert missed == "False"
