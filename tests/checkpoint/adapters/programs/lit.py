"""Lightning with whatever makes a resume hard, by the first argument: see `test_lightning.py`.

On several processes ``plain`` and ``sharded`` alone.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import warnings

import fate
import torch
import torchmetrics
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    Callback,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import CombinedLoader
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from spotweld.checkpoint.adapters.lightning import SpotweldCallback


def is_(flavour: str) -> bool:
    return sys.argv[1] == flavour


class Noisy(TensorDataset):
    """Augments with the global generator."""

    def __getitem__(self, index):  # noqa: ANN001, ANN204
        inputs, label = super().__getitem__(index)
        return (inputs if is_("stateful") else inputs + 0.1 * torch.randn(8)), label


class Stream(IterableDataset):
    def __iter__(self):  # noqa: ANN204
        generator = torch.Generator().manual_seed(5)
        for _ in range(60):
            yield (
                torch.randn(8, generator=generator) + 0.1 * torch.randn(8),
                torch.randint(0, 2, (), generator=generator),
            )


class Harder(LightningDataModule):
    """Other data in every second epoch."""

    def __init__(self, data: Noisy) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self):  # noqa: ANN201
        inputs, labels = self.data.tensors
        return DataLoader(Noisy(inputs * (1 + self.trainer.current_epoch), labels), batch_size=8, shuffle=True)

    def val_dataloader(self):  # noqa: ANN201
        return DataLoader(self.data, batch_size=20)


def _joined(parts):  # noqa: ANN001, ANN202
    """One batch of those of several loaders that still give some."""
    there = [part for part in parts if part is not None]
    return [torch.cat(column) for column in zip(*there, strict=True)]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"function": print})
        self.automatic_optimization = not is_("manual")
        norm = torch.nn.LayerNorm if is_("sharded") else torch.nn.BatchNorm1d
        self.body = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.3), norm(16), torch.nn.Linear(16, 2))
        self.accuracy = torchmetrics.classification.BinaryAccuracy()

    def configure_model(self):  # noqa: ANN201
        if is_("sharded"):
            for part in (self.body[0], self.body[3], self.body):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, index):  # noqa: ANN001, ANN201, ARG002
        inputs, labels = _joined(batch) if is_("several") else batch
        out = self.body(inputs)
        loss = torch.nn.functional.cross_entropy(out, labels)
        self.log("loss", loss, on_step=True, on_epoch=True, sync_dist=fate.ranks() > 1)
        self.accuracy(out.argmax(1), labels)
        self.log("accuracy", self.accuracy, on_epoch=True)
        if is_("manual"):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch, index):  # noqa: ANN001, ANN201, ARG002
        loss = torch.nn.functional.cross_entropy(self.body(batch[0]), batch[1])
        self.log("val", loss, sync_dist=fate.ranks() > 1)

    def configure_optimizers(self):  # noqa: ANN201
        optimizer = torch.optim.AdamW([one for one in self.parameters() if one.requires_grad], 0.01)
        if is_("manual"):
            return optimizer
        if is_("stateful"):
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, 0.05, total_steps=self.trainer.estimated_stepping_batches
            )
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]
        if is_("plain"):
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=1)
            return [optimizer], [{"scheduler": schedule, "monitor": "loss_epoch"}]
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])]


class Thaw(BaseFinetuning):
    """The first layer and the norm are trained from the second epoch on."""

    def freeze_before_training(self, module):  # noqa: ANN001, ANN201
        self.freeze([module.body[0], module.body[2]], train_bn=False)

    def finetune_function(self, module, epoch, optimizer):  # noqa: ANN001, ANN201
        if epoch == 1:
            self.unfreeze_and_add_param_group([module.body[0], module.body[2]], optimizer)


class Told(Callback):
    """Everything that a user could see, with the step at which it was seen, kept outside of any checkpoint."""

    def on_train_batch_end(self, trainer, module, *rest):  # noqa: ANN001, ANN002, ANN201, ARG002
        self._tell(trainer, "batch")
        fate.step_done(trainer.fit_loop.epoch_loop.batch_progress.total.ready)

    def on_validation_end(self, trainer, module):  # noqa: ANN001, ANN201, ARG002
        if not trainer.sanity_checking:
            self._tell(trainer, "validation")

    def on_train_epoch_end(self, trainer, module):  # noqa: ANN001, ANN201, ARG002
        self._tell(trainer, "epoch")

    def _tell(self, trainer, what):  # noqa: ANN001, ANN202
        metrics = {name: float(value).hex() for name, value in sorted(trainer.callback_metrics.items())}
        rates = [float(group["lr"]).hex() for group in trainer.optimizers[0].param_groups]
        ready = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        fate.tell(ready, what, trainer.current_epoch, [metrics, rates])


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seed_everything(1, verbose=False)
    data = Noisy(torch.randn(60, 8), torch.randint(0, 2, (60,)))
    if is_("stateful"):
        loader = StatefulDataLoader(data, batch_size=8, shuffle=True, num_workers=2)
    elif is_("several"):
        short = Noisy(torch.randn(20, 8), torch.randint(0, 2, (20,)))
        parts = [DataLoader(one, batch_size=8, shuffle=True) for one in (data, short)]
        loader = CombinedLoader(parts, "max_size")
    elif is_("iterable") or is_("limited"):
        loader = DataLoader(Stream(), batch_size=8)
    else:
        loader = DataLoader(data, batch_size=8, shuffle=True)
    callbacks = [
        EarlyStopping("val", patience=0 if is_("stop") else 100, stopping_threshold=10 if is_("least") else None),
        ModelCheckpoint("best", monitor="val"),
        Told(),
    ]
    callbacks.insert(1, SpotweldCallback(every=2))
    if is_("growing"):
        callbacks.append(GradientAccumulationScheduler({0: 1, 1: 2, 2: 3}))
    if is_("thaw"):
        callbacks.append(Thaw())
    if is_("averaging"):
        callbacks.append(StochasticWeightAveraging(0.02, swa_epoch_start=1))
    model = Net()
    trainer = Trainer(
        max_epochs=4 if is_("reload") else 3,
        min_epochs=3 if is_("least") else None,
        max_steps=20 if is_("plain") else -1,
        limit_train_batches=5 if is_("limited") else 1.0,
        reload_dataloaders_every_n_epochs=2 if is_("reload") else 0,
        accelerator="cpu",
        devices=fate.ranks(),
        strategy=ModelParallelStrategy() if is_("sharded") else "ddp" if fate.ranks() > 1 else "auto",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=3 if is_("accumulate") else 1,
        val_check_interval=3 if is_("iterable") or is_("plain") else None,
        log_every_n_steps=1,
    )
    if is_("reload"):
        trainer.fit(model, datamodule=Harder(data))
    else:
        trainer.fit(model, loader, DataLoader(data, batch_size=20))
    assert isinstance(next(model.parameters()), DTensor) == is_("sharded")
    digest = hashlib.sha256()
    for value in [*model.state_dict().values(), *(v for s in trainer.optimizers[0].state.values() for v in s.values())]:
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        digest.update(whole.detach().numpy().tobytes())
    digest.update(
        repr([trainer.global_step, trainer.current_epoch, trainer.checkpoint_callback.best_model_score]).encode()
    )
    sys.stdout.write(digest.hexdigest())
