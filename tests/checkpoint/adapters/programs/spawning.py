"""Lightning starts the second of two processes by itself: ``spawning.py PAUSE``."""

from __future__ import annotations

import sys
import time

import torch
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

from spotweld.checkpoint.adapters.lightning import SpotweldCallback


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)

    def training_step(self, batch, index):  # noqa: ANN001, ANN201, ARG002
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):  # noqa: ANN201
        return torch.optim.AdamW(self.parameters())


class Nap(Callback):
    def on_train_batch_end(self, *_):  # noqa: ANN002, ANN201
        time.sleep(float(sys.argv[1]))


def main() -> None:
    _ChildProcessObserver.__init__.__defaults__ = (0.005,)  # looks for a process that has ended at any time, so at once
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    data = TensorDataset(torch.randn(64, 8), torch.randint(0, 2, (64,)))
    trainer = Trainer(
        max_epochs=5,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[SpotweldCallback(every=5), Nap()],
    )
    net = Net()
    trainer.fit(net, DataLoader(data, batch_size=8, shuffle=True))
    if trainer.is_global_zero:
        sys.stdout.write(f"\n{net.layer.weight.sum().item().hex()}\n")


if __name__ == "__main__":
    main()
