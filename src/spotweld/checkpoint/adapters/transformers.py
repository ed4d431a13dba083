"""Hugging Face ``Trainer``: one callback, and ``train`` goes on where it was, bit for bit.

The Trainer's own resume is used for what it does well, finding the epoch and passing over the batches that were
trained on. Its checkpoint folder is not: it is several files that a kill may come between, some of them pickles, and it
leaves out the loss that was summed up since the last log. The live objects' states are saved and restored instead.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from spotweld.checkpoint.adapters.ahead import has_workers, start_workers, watch
from spotweld.checkpoint.adapters.loop import Loop, Part, check_processes, checkpointer_for
from spotweld.checkpoint.adapters.plain import from_plain, to_plain
from spotweld.checkpoint.distributed.views import is_sharded
from spotweld.checkpoint.rng import capture_rng, restore_rng
from spotweld.checkpoint.state import put_back, take
from spotweld.errors import StateMismatch, UsageError

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from spotweld.checkpoint.adapters.ahead import Watched

_FOLDER = "spotweld:resume"
"""What the Trainer is told to resume from. It looks for files there and does without those that it does not find."""
_HOOKS = ("_inner_training_loop", "_init_training_state", "_prepare_for_training")
_PROGRESS = ("epoch", "global_step", "num_input_tokens_seen", "total_flos", "log_history")
_BEST = ("best_metric", "best_global_step", "best_model_checkpoint")
_SUMS = ("_total_loss_scalar", "_globalstep_last_logged", "current_flos")
_STARTS = ("_initial_num_input_tokens_seen", "_initial_global_step")


class SpotweldCallback(TrainerCallback):
    """Makes ``trainer.train()`` resume where it was whenever its machine goes.

    ::

        trainer = Trainer(model=model, args=args, train_dataset=data)
        trainer.add_callback(SpotweldCallback(trainer))
        trainer.train()

    Saved are the model, optimizer, scheduler, gradient scaler, the Trainer's progress and log history, the states of
    its callbacks, the loss since the last log, and the random number generators. The Trainer still writes the folders
    that ``save_strategy`` asks for; Spotweld needs none of them.

    With several processes (DDP, FSDP2 by Accelerate or by transformers itself) every one makes the same calls, and they
    save and leave together.

    Args:
        trainer: to which it is added.
        options: of ``Checkpointer``: ``store``, ``run``, ``every``, ``keep_last``, ``keep_every``, ``notices``.

    Raises:
        UsageError: several processes share the model in another way than these, or the Trainer is of a version that is
            not known here.
    """

    def __init__(self, trainer: Trainer, **options: Any) -> None:  # noqa: ANN401
        missing = [name for name in _HOOKS if not hasattr(trainer, name)]
        if missing:
            raise UsageError("This version of transformers is not known", f"its Trainer has no {missing[0]}")
        kind = "FSDP2" if trainer.accelerator.is_fsdp2 else trainer.accelerator.distributed_type
        if trainer.args.world_size > 1 and kind != "FSDP2" and not kind.startswith("MULTI_"):
            why = f"this run shares its model as {kind.lower()} does"
            raise UsageError("SpotweldCallback works in one process, with DDP, or with FSDP2", why)
        self._trainer = trainer
        self._part = _Training(trainer)
        self._options = options
        self._loop: Loop | None = None
        self._wrap_train()
        self._wrap_init()

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **given: Any) -> None:  # noqa: ANN401, ARG002
        self._part.begin(given["train_dataloader"], args.gradient_accumulation_steps + 1)
        self._part.put_back()

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        self._part.begin_epoch()

    def on_step_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        self._part.settle()
        if self._loop is not None:
            self._loop.reach(state.global_step)

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        self._part.over = True
        if self._loop is not None:
            self._loop.finish(state.global_step)

    def _wrap_train(self) -> None:
        """Let the Trainer believe from the start that it resumes: only then it passes over batches."""
        train = self._trainer._inner_training_loop  # noqa: SLF001

        @functools.wraps(train)
        def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            kwargs["resume_from_checkpoint"] = kwargs.get("resume_from_checkpoint") or _FOLDER
            try:
                return train(*args, **kwargs)
            finally:
                if self._loop is not None:
                    self._loop.close()

        self._trainer._inner_training_loop = wrapped  # noqa: SLF001

    def _wrap_init(self) -> None:
        """Restore where the Trainer would read its folder: it now knows how many steps there are.

        It would make its optimizer, and shard its model, a little later; but these are what is restored.
        """
        trainer, part = self._trainer, self._part
        init, prepare = trainer._init_training_state, trainer._prepare_for_training  # noqa: SLF001

        def wrapped(
            max_steps: int,
            steps_in_epoch: int,
            epochs: int,
            folder: str,
            *rest: Any,  # noqa: ANN401
        ) -> tuple[int, int]:
            begun: tuple[int, int] = init(max_steps, steps_in_epoch, epochs, folder, *rest)
            prepare(max_steps, None, None if folder == _FOLDER else folder)
            group = trainer.args.world_size > 1
            keeper = checkpointer_for(part.shared(), part.own, self._options, group=group)
            self._loop = Loop(keeper, max_steps)
            self._loop.begin()
            if part.restored is None:
                return begun
            part.edge_rng = capture_rng()
            for name, value in part.restored["progress"].items():
                setattr(trainer.state, name, value)
            if part.restored["over"]:
                return epochs, 0
            # Counted, as an epoch may have fewer steps than the Trainer thinks: without a length, or left early.
            steps = trainer.state.global_step - part.restored["epoch_began"]
            return part.restored["epoch"], steps * trainer.args.gradient_accumulation_steps

        def prepared(_max_steps: int, loader: Any, _folder: str) -> tuple[Any, Any]:  # noqa: ANN401
            trainer.callback_handler.train_dataloader = loader
            return trainer.model_wrapped, loader

        trainer._init_training_state = wrapped  # noqa: SLF001
        trainer._prepare_for_training = prepared  # noqa: SLF001


class _Training:
    """The whole of a training, as two parts of a state: what processes have alike, and what each has for itself."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.own = Part(self._take_own, self._give_own)
        self.restored: dict[str, Any] | None = None
        """What was read and is not yet put back."""
        self.edge_rng: dict[str, Any] = {}
        self._loader: Any = None
        self._watched: Watched | None = None
        self._begun = False
        self.over = False
        self._epoch, self._epoch_began = -1, 0  # the steps that were finished before it
        self._epoch_rng: dict[str, Any] = {}

    def shared(self) -> dict[str, object]:
        """What processes have alike. Of what is sharded each has a part, and fills it where it is."""
        trainer = self._trainer
        sharded = {"model": trainer.model, "optimizer": trainer.optimizer}
        if not any(map(is_sharded, trainer.model.parameters())):
            return {"objects": self._plain(sharded | self._others())}
        return {**sharded, "objects": self._plain(self._others())}

    def _plain(self, parts: dict[str, Any]) -> Part:
        return Part(lambda: to_plain(take(parts)), lambda state: put_back(parts, from_plain(state)))

    def _take_own(self) -> dict[str, Any]:
        trainer = self._trainer
        if not self._begun:
            return {}
        progress = {name: getattr(trainer.state, name) for name in (*_PROGRESS, *_BEST)}
        if self.over:  # if the program is started again, the Trainer sums up again
            progress["log_history"] = [told for told in progress["log_history"] if "train_runtime" not in told]
        state: dict[str, Any] = to_plain(
            {
                "processes": trainer.args.world_size,
                "progress": progress,
                "loss": torch.zeros(()) if self.over else trainer._tr_loss,  # noqa: SLF001
                "sums": {name: getattr(trainer, name) for name in (*_SUMS, *_STARTS)},
                "callbacks": [callback.state() for callback in self._callbacks()],
                "over": self.over,
                "workers": has_workers(self._loader),
                "eval_workers": [name for name, loader in self._eval_loaders().items() if has_workers(loader)],
                "epoch": self._epoch,
                "epoch_began": self._epoch_began,
            }
        )
        return state | {
            "epoch_rng": self._epoch_rng,
            "fetches": self._watched.kept() if self._watched is not None else {},
            "order": self._watched.order if self._watched is not None else {},
        }

    def _give_own(self, state: dict[str, Any]) -> None:
        check_processes(state["processes"], self._trainer.args.world_size)
        self.restored = from_plain(state)

    def begin(self, loader: Any, ahead: int) -> None:  # noqa: ANN401
        """The Trainer begins, or begins again: there are objects with a state, and no epoch yet."""
        self._loader, self._watched = loader, watch(loader, ahead)
        self._begun, self._epoch = True, -1

    def put_back(self) -> None:
        """The Trainer has begun to count: let it go on where it was."""
        saved = self.restored
        if saved is None:
            return
        if saved["workers"]:
            start_workers(self._loader)
        for name in saved["eval_workers"]:
            start_workers(self._trainer.get_eval_dataloader(None if name == "eval" else name))
        # Evaluated it was, when it began: a second time would count against the patience of early stopping.
        self._trainer.args.eval_on_start = False
        with torch.no_grad():
            self._trainer._tr_loss.copy_(saved["loss"])  # noqa: SLF001
        for name, value in saved["sums"].items():
            setattr(self._trainer, name, value)
        callbacks = self._callbacks()
        if len(callbacks) != len(saved["callbacks"]):
            raise StateMismatch(
                "The Trainer has other callbacks than at that time",
                f"{len(saved['callbacks'])} of them had a state then, and {len(callbacks)} have one now",
            )
        for callback, theirs in zip(callbacks, saved["callbacks"], strict=True):
            for name, value in (theirs["args"] | theirs["attributes"]).items():
                setattr(callback, name, value)

    def begin_epoch(self) -> None:
        """A sampler that draws its order from a global generator is about to: in a restored epoch the same again."""
        if self.restored is None:
            self._epoch, self._epoch_began = self._epoch + 1, self._trainer.state.global_step
            self._epoch_rng = capture_rng()
            return
        self._epoch, self._epoch_began = self.restored["epoch"], self.restored["epoch_began"]
        self._epoch_rng = self.restored["epoch_rng"]
        restore_rng(self._epoch_rng)
        if self._watched is not None:
            # The Trainer makes a loader of its own for what is left of the epoch; one whose workers had been started
            # draws no seed for them before the order, and that one does.
            self._watched.repeat(self.restored["fetches"], self.restored.get("order", {}))

    def settle(self) -> None:
        """The Trainer has come to where the checkpoint was taken; what it did on its way leaves no trace."""
        if self.restored is not None:
            self._trainer.state.log_history = self.restored["progress"]["log_history"]
            restore_rng(self.edge_rng)
            if self._watched is not None:
                # Of an IterableDataset the Trainer has made itself another loader until now.
                self._watched.repeat({}, {})
            self.restored = None

    def _others(self) -> dict[str, Any]:
        scaler = getattr(self._trainer.accelerator, "scaler", None)
        return {"scheduler": self._trainer.lr_scheduler} | ({} if scaler is None else {"scaler": scaler})

    def _eval_loaders(self) -> dict[str, Any]:
        """Those that the Trainer keeps, as they have workers that stay."""
        return getattr(self._trainer, "_eval_dataloaders", {})

    def _callbacks(self) -> list[Any]:
        """The callbacks that have a state."""
        return [one for one in self._trainer.callback_handler.callbacks if isinstance(one, ExportableState)]
