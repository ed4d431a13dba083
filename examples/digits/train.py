"""Train a small CNN on the UCI hand-written digits, in a way that survives the loss of the machine.

Run it, stop it with Ctrl-C or ``kill -9``, run it again: it goes on where it was, and ends with the same weights.
SEED and STEPS in the environment change the run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from spotweld import Checkpointer, Sampler

if TYPE_CHECKING:
    from torch import Tensor

SEED = int(os.environ.get("SEED", "1"))
STEPS = int(os.environ.get("STEPS", "2400"))
BATCH = 64
TEST = 297


class Training:
    """The data, the model and everything else that one step of training changes."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(mode=True)
        torch.manual_seed(SEED)
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        targets = torch.tensor(labels, dtype=torch.int64)
        self.images, self.test_images = images[:-TEST], images[-TEST:]
        self.targets, self.test_targets = targets[:-TEST], targets[-TEST:]
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(1024, 768), nn.ReLU()),
            *(nn.Dropout(0.5), nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 10)),
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.05)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=STEPS)
        self.sampler = Sampler(len(self.images), BATCH, seed=SEED)

    def step(self) -> float:
        """One update of the weights; gives the loss before it."""
        chosen = self.sampler.next()
        across, down = torch.randint(-1, 2, (2,)).tolist()
        images = torch.roll(self.images[chosen], shifts=(across, down), dims=(2, 3))
        loss = functional.cross_entropy(self.model(images), self.targets[chosen])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    @torch.no_grad()
    def accuracy(self) -> float:
        """The share of the test images that the model reads rightly, from 0 to 1."""
        self.model.eval()
        guesses: Tensor = self.model(self.test_images).argmax(1)
        self.model.train()
        return (guesses == self.test_targets).float().mean().item()


def main() -> None:
    """Train to the end, however many processes it takes."""
    training = Training()
    checkpointer = Checkpointer(
        {
            "model": training.model,
            "optimizer": training.optimizer,
            "schedule": training.schedule,
            "sampler": training.sampler,
        }
    )
    for _ in checkpointer.steps(STEPS):
        checkpointer.log(loss=training.step())
    accuracy = training.accuracy()
    checkpointer.log(accuracy=accuracy)
    print(f"test accuracy {accuracy:.2%} after {STEPS} steps")


if __name__ == "__main__":
    main()
