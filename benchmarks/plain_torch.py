"""The net of swift as one writes it in PyTorch: batch normalisation, float32, Adam, data in memory.

.venv-torch/bin/python -m benchmarks.plain_torch FOLDER GOAL WIDTH      # an environment with torch and numpy alone
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.clock import Clock

BATCH = 128  # as recipes/swift.yaml
EPOCHS = 10  # at most


def main(normalised: Path, goal: float, width: int) -> None:
    """Train, and print a line of JSON."""
    torch.manual_seed(7)
    images, labels = read(normalised, "train")
    held_out, truth = read(normalised, "validation")
    clock = Clock(goal, len(labels))
    model = net(width).to(memory_format=torch.channels_last)
    optimiser, loss_of = torch.optim.Adam(model.parameters(), 0.001), nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimiser.zero_grad()
            loss_of(model(images[batch]), labels[batch]).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            said = torch.cat([model(part).argmax(1) for part in held_out.split(500)])
        if clock.epoch(float((said == truth).float().mean())):
            break
    print(clock.line())


def read(normalised: Path, name: str) -> tuple[Tensor, Tensor]:
    """Images float32 (n, 1, 28, 28), 0 … 1, and labels."""
    pixels, labels = (np.load(normalised / f"{name}-{kind}.npy") for kind in ("images", "labels"))
    images = torch.from_numpy(pixels).float().div(255).unsqueeze(1).contiguous(memory_format=torch.channels_last)
    return images, torch.from_numpy(labels.astype(np.int64))


class Block(nn.Module):
    """x + convolution(ReLU(convolution(ReLU(x)))), then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(), convolution(channels, channels), nn.ReLU(), convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.branch(x))


def convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))


def net(width: int) -> nn.Sequential:
    """The layers of models/residual.py, with batch normalisation."""
    stages = [convolution(1, width), nn.ReLU()]
    for channels in (2 * width, 4 * width):
        stages += [nn.MaxPool2d(2), convolution(channels // 2, channels), Block(channels)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
