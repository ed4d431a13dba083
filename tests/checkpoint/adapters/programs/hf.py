"""A tiny model under the Trainer: ``hf plain|accumulate|stop|stream|workers|sharded|fsdp``.

On several processes ``plain``, ``sharded`` (by transformers) and ``fsdp`` (by Accelerate).
"""

from __future__ import annotations

import hashlib
import sys
import warnings

import fate
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset, IterableDataset
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from spotweld.checkpoint.adapters.transformers import SpotweldCallback


def is_(flavour: str) -> bool:
    return sys.argv[1] == flavour


class Texts(Dataset):
    """Some tokens of each text are replaced at random, as for a masked language model."""

    def __init__(self, count: int, noise: float) -> None:
        self.texts = torch.randint(0, 60, (count, 12), generator=torch.Generator().manual_seed(3))
        self.noise = noise

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index):  # noqa: ANN001, ANN204
        text = self.texts[index]
        noisy = torch.where(torch.rand(12) < self.noise, torch.randint(0, 60, (12,)), text)
        return {"input_ids": noisy, "labels": text}


class Stream(IterableDataset):
    """Without a length, and read several times."""

    def __init__(self, count: int) -> None:
        self.texts = Texts(count, 0)

    def __iter__(self):  # noqa: ANN204
        return (self.texts[index] for index in range(len(self.texts)))


class Told(TrainerCallback):
    def on_log(self, args, state, control, logs, **_):  # noqa: ANN001, ANN003, ANN201, ARG002
        timing = ("runtime", "per_second")
        told = {name: float(value).hex() for name, value in logs.items() if not name.endswith(timing)}
        fate.tell(state.global_step, sorted(told), told)

    def on_step_end(self, args, state, control, **_):  # noqa: ANN001, ANN003, ANN201, ARG002
        fate.step_done(state.global_step)


def shard_on_cpu() -> None:
    """Accelerate shards on GPUs only. What it does there works on CPUs, too, once it is told that it may."""
    init = AcceleratorState.__init__

    def wrapped(self, *args, fsdp_plugin=None, **given) -> None:  # noqa: ANN001, ANN002, ANN003
        init(self, *args, fsdp_plugin=fsdp_plugin, **given)
        if fsdp_plugin is not None and self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = wrapped  # type: ignore[method-assign]


def made() -> torch.nn.Module:
    torch.manual_seed(0)
    if not is_("sharded"):
        return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=12, n_embd=16, n_layer=2, n_head=2))
    size = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 12}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    start = f"start-{fate.rank()}"
    LlamaForCausalLM(LlamaConfig(**size, **heads)).save_pretrained(start)
    return LlamaForCausalLM.from_pretrained(start, distributed_config=DistributedConfig(fsdp_size=fate.ranks()))


def main() -> None:
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    if is_("fsdp"):
        shard_on_cpu()
    model = made()
    model.config.pad_token_id = None
    args = TrainingArguments(
        ".",
        num_train_epochs=3,
        max_steps=20 if is_("stream") else -1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2 if is_("accumulate") else 1,
        learning_rate=0.01,
        lr_scheduler_type="cosine",
        warmup_steps=3,
        logging_steps=3,
        eval_strategy="steps",
        eval_steps=4,
        eval_on_start=is_("stop"),
        save_strategy="steps" if is_("stop") else "no",
        save_steps=4,
        load_best_model_at_end=is_("stop"),
        metric_for_best_model="eval_loss",
        use_cpu=True,
        ddp_backend="gloo" if fate.ranks() > 1 else None,
        fsdp=is_("fsdp"),
        fsdp_config={"version": 2, "transformer_layer_cls_to_wrap": ["GPT2Block"]} if is_("fsdp") else None,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        dataloader_num_workers=2 if is_("workers") else 0,
        dataloader_persistent_workers=is_("workers"),
        train_sampling_strategy="group_by_length" if is_("workers") else "random",
    )
    callbacks = [Told()]
    if is_("stop"):
        callbacks.append(EarlyStoppingCallback(1, 0.05))
    texts = Stream(22) if is_("stream") else Texts(30, 0 if is_("workers") else 0.2)
    trainer = Trainer(model=model, args=args, train_dataset=texts, eval_dataset=Texts(10, 0), callbacks=callbacks)
    trainer.add_callback(SpotweldCallback(trainer, every=2))
    result = trainer.train()
    assert isinstance(next(trainer.model.parameters()), DTensor) == (is_("sharded") or is_("fsdp"))
    digest = hashlib.sha256()
    for value in [*model.state_dict().values(), *(v for s in trainer.optimizer.state.values() for v in s.values())]:
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        digest.update(whole.detach().numpy().tobytes())
    history = [
        {k: v for k, v in told.items() if "runtime" not in k and "second" not in k}
        for told in trainer.state.log_history
    ]
    digest.update(repr([history, result.training_loss, trainer.state.total_flos]).encode())
    sys.stdout.write(f"\n{digest.hexdigest()}")
