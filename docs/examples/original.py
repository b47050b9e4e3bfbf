"""A small residual network, to try `pytest --model docs/examples/original.py:build --input 1x3x56x56` with."""

import torch
from torch import nn


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the activations after the block."""
        return torch.relu(self.conv2(torch.relu(self.conv1(images))) + self.shortcut(images))


class Network(nn.Module):
    """Two blocks after a convolution that reads the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what a classifier would read."""
        return self.layer2(self.layer1(torch.relu(self.conv1(images)))).mean((2, 3))


def build() -> nn.Module:
    """Return the network, as --model asks for it."""
    return Network()
