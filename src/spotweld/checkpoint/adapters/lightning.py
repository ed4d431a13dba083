"""Lightning: one callback, and ``Trainer.fit`` goes on where it was, inside an epoch and bit for bit.

A callback and no ``CheckpointIO`` plugin: a plugin is asked only when Lightning has decided to save, gets whatever a
``ModelCheckpoint`` writes, and hears of no notice. The callback saves by Spotweld's cadence, and leaves to
``ModelCheckpoint`` what that is for: keeping what is worth keeping.

A save must lie between two batches, when validation, schedulers and loggers have done their part for the one and
nothing has been fetched for the other. No hook of Lightning's is called there, so the callback wraps ``advance``, the
method that trains on one batch. What is saved is Lightning's own checkpoint, restored by Lightning's own methods.
"""

from __future__ import annotations

import math
import signal
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    Callback,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
)
from lightning.pytorch.loops.fetchers import _DataLoaderIterDataFetcher
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from spotweld.checkpoint.adapters.lightning_metrics import metrics_state, restore_metrics
from spotweld.checkpoint.adapters.loaders import Resumable
from spotweld.checkpoint.adapters.loop import UNLIMITED, Loop, Part, check_processes, checkpointer_for
from spotweld.checkpoint.adapters.plain import from_plain, to_plain
from spotweld.checkpoint.rng import capture_rng, restore_rng
from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch import LightningModule, Trainer

_MORE = "spotweld"
_ALIKE = ("state_dict", "optimizer_states")
"""What of Lightning's checkpoint all processes have alike."""


class SpotweldCallback(Callback):
    """Makes ``fit`` resume where it was whenever its machine goes.

    ::

        trainer = Trainer(max_epochs=10, callbacks=[SpotweldCallback()])
        trainer.fit(model, loader)

    Saved are the model, optimizers, schedulers, precision plugin, loops, callbacks, data module, every train loader's
    position, what was logged in the running epoch, the states of ``torchmetrics`` in the model, and the random number
    generators. Hyperparameters are not: the program sets them again.

    With several processes (DDP, or FSDP2 and tensor parallelism by ``ModelParallelStrategy``) every one makes the same
    calls, and they save and leave together.

    Args:
        options: of ``Checkpointer``: ``store``, ``run``, ``every``, ``keep_last``, ``keep_every``, ``notices``.

    Raises:
        UsageError: at the start of ``fit``: several processes share the model in another way than these, or a
            ``training_step`` takes ``dataloader_iter``.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        self._options = options
        self._loop: Loop | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's
        if stage == "fit":
            # Last, so that at the end of training every other callback has had its turn.
            trainer.callbacks = [*(other for other in trainer.callbacks if other is not self), self]
            _wrap_loaders(trainer.fit_loop)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.world_size > 1 and not isinstance(trainer.strategy, (DDPStrategy, ModelParallelStrategy)):
            why = f"this run shares its model by {type(trainer.strategy).__name__}"
            raise UsageError("SpotweldCallback works in one process, with DDP, or with ModelParallelStrategy", why)
        fit_loop = trainer.fit_loop
        fit_loop.setup_data()
        if isinstance(fit_loop._data_fetcher, _DataLoaderIterDataFetcher):  # noqa: SLF001
            raise UsageError(
                "training_step(dataloader_iter) cannot be resumed",
                "nobody knows how far ahead it reads",
                "Take a batch.",
            )
        fit = _Fit(trainer)
        keeper = checkpointer_for(fit.shared, fit.own, self._options, group=fit.sharded or trainer.world_size > 1)
        self._loop = loop = Loop(keeper, _total(trainer))
        loop.begin()
        fit.rng = capture_rng()
        _wrap_advance(trainer, loop, fit)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        # Lightning's own handler of TERM would end the process after the batch with status 0, as if all were done.
        ours = trainer._signal_connector._original_handlers.get(signal.SIGTERM)  # noqa: SLF001
        if callable(ours) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if self._loop is not None:
            self._loop.finish(_step(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        if isinstance(exception, SystemExit):
            _let_others_leave()
        if self._loop is not None:
            self._loop.close()


class _Fit:
    """The whole of a ``fit``, as two parts of a state: what processes have alike, and what each has for itself."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.sharded = isinstance(trainer.strategy, ModelParallelStrategy)
        """Each process has a part of the model and of the optimizers, and fills it where it is."""
        self.shared: dict[str, object] = {"objects": Part(self._take_shared, self._give_shared)}
        if self.sharded:
            optimizers = {f"optimizer{number}": each for number, each in enumerate(trainer.optimizers)}
            self.shared = {"model": trainer.lightning_module, **optimizers}
        self.own = Part(self._take_own, self._give_own)
        self._alike: dict[str, Any] = {}
        self._rest: dict[str, Any] | None = None
        """Of the checkpoint that the shared part was taken from."""
        self.rng: dict[str, Any] = {}
        self.restored: dict[str, Any] | None = None

    def _take_shared(self) -> dict[str, Any]:
        checkpoint = self._dump()
        alike = {name: checkpoint.pop(name) for name in _ALIKE if name in checkpoint}
        self._rest = checkpoint
        return alike

    def _take_own(self) -> dict[str, Any]:
        rest, self._rest = self._rest, None
        if rest is None:
            rest = {name: value for name, value in self._dump().items() if name not in _ALIKE}
        return rest | {"processes": self._trainer.world_size}

    def _dump(self) -> dict[str, Any]:
        trainer = self._trainer
        with _no_arrays(trainer.strategy) if self.sharded else nullcontext():
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # noqa: SLF001
        for part in (trainer.lightning_module, trainer.datamodule):
            for name in ("CHECKPOINT_HYPER_PARAMS_KEY", "CHECKPOINT_HYPER_PARAMS_NAME", "CHECKPOINT_HYPER_PARAMS_TYPE"):
                checkpoint.pop(getattr(part, name, None), None)
        checkpoint[_MORE] = {
            "should_stop": trainer.should_stop,
            "loaders_of": trainer.fit_loop._last_train_dl_reload_epoch,  # noqa: SLF001
            "thawed": _thawed(trainer.lightning_module),
            "metrics": metrics_state(trainer),
        }
        plain: dict[str, Any] = to_plain(checkpoint)
        return plain

    def _give_shared(self, state: dict[str, Any]) -> None:
        self._alike, self._rest = state, None

    def _give_own(self, state: dict[str, Any]) -> None:
        trainer, alike, self._alike = self._trainer, self._alike, {}
        check_processes(state["processes"], trainer.world_size)
        if self.sharded:
            alike = {name: {} for name in _ALIKE}
        checkpoint = from_plain(alike | {name: value for name, value in state.items() if name != "processes"})
        self.restored = checkpoint.pop(_MORE)
        connector, fit_loop = trainer._checkpoint_connector, trainer.fit_loop  # noqa: SLF001
        connector._loaded_checkpoint = checkpoint  # noqa: SLF001
        connector.restore_model()
        connector.restore_datamodule()
        connector.restore_callbacks()
        for callback in trainer.callbacks:
            if isinstance(callback, BaseFinetuning):
                callback.on_fit_start(trainer, trainer.lightning_module)  # makes the groups that the optimizers had
                _thaw(trainer.lightning_module, self.restored["thawed"])
        averaging = [one for one in trainer.callbacks if isinstance(one, StochasticWeightAveraging)]
        if any(one._scheduler_state is not None for one in averaging):  # noqa: SLF001
            trainer.strategy.lr_scheduler_configs.clear()  # they were swapped for its own
        connector.restore_training_state()
        trainer.should_stop = bool(self.restored["should_stop"])
        if fit_loop._data_fetcher is not None:  # noqa: SLF001
            _ask_for_loaders(fit_loop, self.restored["loaders_of"])
            fit_loop._load_combined_loader_states()  # noqa: SLF001
            iter(fit_loop._data_fetcher)  # noqa: SLF001
        for callback in averaging:
            # It does what its epoch needs when that begins, to a state that is older than ours.
            callback._accumulate_grad_batches = trainer.accumulate_grad_batches  # noqa: SLF001
            callback.on_train_epoch_start(trainer, trainer.lightning_module)
            connector.restore_model()
            connector.restore_optimizers()
        connector._loaded_checkpoint = {}  # noqa: SLF001 - nor is it what `fit(ckpt_path=...)` named

    def settle(self) -> None:
        """Lightning has come to where the checkpoint was taken: from here on nothing may tell that it was elsewhere."""
        if self.restored is not None:
            # In an epoch that it takes for a restarted one, Lightning leaves out validation and plateau schedulers. The
            # fit's own setter is passed by: with `max_steps` it knows no other epochs.
            _Loop.restarting.fset(self._trainer.fit_loop, False)
            for callback in self._trainer.callbacks:
                if isinstance(callback, GradientAccumulationScheduler):
                    callback.on_train_epoch_start(self._trainer)  # left out as well
            restore_metrics(self._trainer, self.restored["metrics"])
            restore_rng(self.rng)
            self.restored = None


def _thawed(module: LightningModule) -> dict[str, list[str]]:
    """The parameters that are trained, and the modules that gather statistics: callbacks that finetune change both."""
    return {
        "parameters": [name for name, one in module.named_parameters() if one.requires_grad],
        "modules": [name for name, one in module.named_modules() if getattr(one, "track_running_stats", False)],
    }


def _thaw(module: LightningModule, then: dict[str, list[str]]) -> None:
    parameters, modules = set(then["parameters"]), set(then["modules"])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in parameters)
    for name, part in module.named_modules():
        if hasattr(part, "track_running_stats"):
            part.track_running_stats = name in modules


def _ask_for_loaders(fit_loop: Any, epoch: int) -> None:  # noqa: ANN401
    """What ``reload_dataloaders_every_n_epochs`` asked for in that epoch; nothing, if these are the first ones."""
    positions, fit_loop._combined_loader_states_to_load = fit_loop._combined_loader_states_to_load, []  # noqa: SLF001
    progress = fit_loop.epoch_progress.current
    now, progress.completed = progress.completed, epoch
    fit_loop.setup_data()
    progress.completed = now
    fit_loop._combined_loader_states_to_load = positions  # noqa: SLF001


@contextmanager
def _no_arrays(strategy: Any) -> Iterator[None]:  # noqa: ANN401
    """Lightning asks a strategy for model and optimizers, which would collect them from all processes. Not here."""
    strategy.lightning_module_state_dict, strategy.optimizer_state = dict, lambda _optimizer: {}
    try:
        yield
    finally:
        del strategy.lightning_module_state_dict, strategy.optimizer_state


def _let_others_leave() -> None:
    """Processes that Lightning has started leave with this one. Its thread that watches them would kill it for that."""
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []  # noqa: SLF001


def _wrap_loaders(fit_loop: Any) -> None:  # noqa: ANN401
    """Make the train loaders resumable as soon as Lightning has them, just before it iterates over them."""
    load_states = fit_loop._load_combined_loader_states  # noqa: SLF001

    def wrapped() -> None:
        combined = fit_loop._combined_loader  # noqa: SLF001
        ahead = int(_length(combined) == math.inf)
        combined.flattened = [
            loader if isinstance(loader, Resumable) else Resumable(loader, ahead=ahead) for loader in combined.flattened
        ]
        load_states()
        if combined._mode == "max_size" and any(loader.is_inside for loader in combined.flattened):  # noqa: SLF001
            for loader in combined.flattened:
                if not loader.is_inside:  # it had come to its end, and waits for the longest
                    loader.rest()

    fit_loop._load_combined_loader_states = wrapped  # noqa: SLF001


def _length(combined: Any) -> float:  # noqa: ANN401
    """Batches in an epoch. Where they are not known, Lightning takes one ahead, to know which is the last."""
    sizes = [math.inf if (size := sized_len(loader)) is None else size for loader in combined.flattened]
    found: float = {"min_size": min}.get(combined._mode, max)(map(min, sizes, combined.limits))  # noqa: SLF001
    return found


def _wrap_advance(trainer: Trainer, loop: Loop, fit: _Fit) -> None:
    epoch_loop = trainer.fit_loop.epoch_loop
    advance = epoch_loop.advance

    def wrapped(data_fetcher: Any) -> None:  # noqa: ANN401
        fit.settle()
        loop.reach(_step(trainer))
        advance(data_fetcher)

    epoch_loop.advance = wrapped


def _step(trainer: Trainer) -> int:
    """Steps finished: of the optimizer, where Lightning drives it, so that no save lies between accumulated batches."""
    if trainer.lightning_module.automatic_optimization:
        return int(trainer.global_step)
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.ready)


def _total(trainer: Trainer) -> int:
    changing = any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks)
    if changing or not trainer.lightning_module.automatic_optimization:
        return UNLIMITED
    steps = trainer.estimated_stepping_batches
    return int(steps) if 0 < steps < UNLIMITED else UNLIMITED
