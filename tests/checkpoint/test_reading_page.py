"""The examples of docs/reading.md, in the order in which they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from click.testing import CliRunner
from tests.checkpoint.saved import save

from spotweld import Checkpointer, open_checkpoint
from spotweld.cli.main import program
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "reading.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"^```python {name}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def network(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPOTWELD_STORE", raising=False)
    trained, objects = network(1), open_store("file:.spotweld/store")
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.5)
    for step in (1000, 1200):
        save(objects, {"model": trained, "optimizer": optimizer}, step)

    names: dict[str, Any] = {}
    exec(block("open"), names)
    assert names["checkpoint"].step == 1200
    assert names["checkpoint"].names()[0] == "model.0.weight"
    assert torch.equal(names["weights"]["1.bias"], trained[1].bias)
    assert set(names["part"]["model"]) == {"0.weight", "0.bias"}
    assert names["part"]["optimizer"] == {"param_groups": [{"lr": 0.5}]}
    assert names["half"]["model"]["0.weight"].dtype is torch.bfloat16
    assert set(names["everything"]) == {"model", "optimizer"}

    names["model"] = network(2)
    exec(block("into"), names)
    assert torch.equal(names["model"][1].weight, trained[1].weight)

    fresh = network(3)
    other = fresh[1].weight.clone()
    seen: list[torch.Tensor] = []
    tuning = {
        "open_checkpoint": open_checkpoint,
        "Checkpointer": lambda state, **how: Checkpointer(state, notices=[], **how),
        "model": fresh,
        "optimizer": torch.optim.SGD(fresh.parameters(), lr=0.1),
        "train": lambda model, _optimizer: seen.append(model[0].weight.clone()),
    }
    exec(block("tune"), tuning)
    assert len(seen) == 10
    assert torch.equal(fresh[0].weight, trained[0].weight)
    assert torch.equal(fresh[1].weight, other)

    for line in re.findall(r"^spotweld (checkpoint .*?)(?:  .*)?$", PAGE, re.MULTILINE):
        result = CliRunner().invoke(program, line.replace("RUN", "default").replace("NEW", "new").split())
        assert result.exit_code == 0, result.output
    names["model"] = network(4)
    exec(block("safetensors"), names)
    assert torch.equal(names["model"][0].weight, trained[0].weight)
    assert torch.equal(open_checkpoint("file:.spotweld/store", "new").load()["model"]["0.weight"], trained[0].weight)
