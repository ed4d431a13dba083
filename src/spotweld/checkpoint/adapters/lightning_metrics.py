"""What Lightning has logged so far in an epoch, which its own checkpoints leave out.

Without it an epoch's mean after a resume would be that of the steps since then, and whatever monitors it (early
stopping, ``ModelCheckpoint``, ``ReduceLROnPlateau``) would decide differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torchmetrics import Metric

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_TABLES = ("_logged_metrics", "_callback_metrics", "_progress_bar_metrics", "_first_loop_iter", "_current_fx")
_META = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph")
_META_MORE = ("add_dataloader_idx", "dataloader_idx", "metric_attribute")
_VALUES = ("has_reset", "_update_count", "_computed", "_forward_cache")


def metrics_state(trainer: Trainer) -> dict[str, Any]:
    """The figures of the running epoch, in plain values and tensors."""
    results = trainer.fit_loop.epoch_loop._results  # noqa: SLF001
    connector = trainer._logger_connector  # noqa: SLF001
    return {
        "tables": {name: getattr(connector, name) for name in _TABLES},
        "results": {key: _result(metric) for key, metric in results.items()},
        "metrics": {name: _metric(metric) for name, metric in _metrics(trainer)},
    }


def restore_metrics(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put those figures back."""
    connector = trainer._logger_connector  # noqa: SLF001
    for name, table in state["tables"].items():
        setattr(connector, name, table)
    for name, metric in _metrics(trainer):
        for field, value in state["metrics"][name].items():
            setattr(metric, field, value)
    results = trainer.fit_loop.epoch_loop._results  # noqa: SLF001
    results.clear()
    for key, saved in state["results"].items():
        results[key] = _made(trainer, saved)
    results.to(trainer.strategy.root_device)


def _metrics(trainer: Trainer) -> list[tuple[str, Metric]]:
    return [(name, part) for name, part in trainer.lightning_module.named_modules() if isinstance(part, Metric)]


def _metric(metric: Metric) -> dict[str, Any]:
    names = [*metric._defaults, "_update_count", "_computed", "_forward_cache"]  # noqa: SLF001
    return {name: getattr(metric, name) for name in names}


def _result(metric: _ResultMetric) -> dict[str, Any]:
    meta, sync = metric.meta, metric.meta.sync
    reduce_fx = meta.reduce_fx
    saved = {name: getattr(meta, name) for name in (*_META, *_META_MORE)}
    return {
        "meta": saved,
        "reduce": [getattr(reduce_fx, "__module__", ""), reduce_fx.__name__],
        "sync": [sync.should, sync.rank_zero_only, sync.op],
        "values": {name: getattr(metric, name) for name in _VALUES},
        "tensors": {name: getattr(metric, name) for name in metric._defaults} if metric.is_tensor else None,  # noqa: SLF001
    }


def _made(trainer: Trainer, saved: dict[str, Any]) -> _ResultMetric:
    module, name = saved["reduce"]
    reduce_fx = {"max": max, "min": min, "sum": sum}[name] if module == "builtins" else getattr(torch, name)
    meta = _Metadata(**saved["meta"], reduce_fx=reduce_fx)
    should, rank_zero_only, op = saved["sync"]
    meta._sync = _Sync(trainer.strategy.reduce, should, rank_zero_only, op)  # noqa: SLF001
    tensors = saved["tensors"]
    made = _ResultMetric(meta, is_tensor=tensors is not None)
    for field, value in (saved["values"] | (tensors or {})).items():
        setattr(made, field, value)
    if tensors is None:
        made.value = trainer.lightning_module.get_submodule(meta.metric_attribute or "")
    return made
