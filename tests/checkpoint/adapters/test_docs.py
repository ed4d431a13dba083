"""The examples of docs/adapters.md, each run as it stands there, twice: the second time there is nothing left to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Zygote

PAGE = Path(__file__).parents[3] / "docs" / "adapters.md"
EXAMPLES = re.findall(r"```python (\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
IMPORTED = {
    "lightning": ("lit",),
    "transformers": ("hf",),
    "torchdata": ("accelerated", "streamed"),
    "jax": ("flaxed",),
    "numpy": ("numpy",),
}


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "text"), EXAMPLES, ids=[f"{at}-{name}" for at, (name, _) in enumerate(EXAMPLES)])
def test_an_example_runs_to_its_end_once(
    new_run: Callable[..., Run], zygote: Callable[..., Zygote], framework: str, text: str
) -> None:
    run = new_run(zygote(*IMPORTED[framework]), text)
    for restored in ([], [True]):
        run.start()
        assert run.wait() == 0, run.err
        assert [step > 0 for step in run.restored] == restored
