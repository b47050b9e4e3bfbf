"""The networks of the proof, with random weights: ResNet-50 v1.5 and MobileNetV2 written here, and one of timm's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution and its normalisation."""
    padding = kernel // 2
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):  # type: ignore[misc]
    """Three convolutions and a shortcut, with the stride in the second one."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, width, 1)
        self.conv2, self.bn2 = convolution(width, width, 3, stride)
        self.conv3, self.bn3 = convolution(width, 4 * width, 1)
        changes = stride > 1 or inputs != 4 * width
        self.downsample = nn.Sequential(*convolution(inputs, 4 * width, 1, stride)) if changes else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the activations after the block."""
        inside = torch.relu(self.bn1(self.conv1(images)))
        inside = torch.relu(self.bn2(self.conv2(inside)))
        return torch.relu(self.bn3(self.conv3(inside)) + self.downsample(images))


class ResNet(nn.Module):  # type: ignore[misc]
    """A residual network of bottlenecks; `blocks` are those of its stages."""

    def __init__(self, blocks: tuple[int, ...], width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, width, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], width
        for stage, number in enumerate(blocks):
            row = []
            for block in range(number):
                row.append(Bottleneck(inputs, width << stage, 2 if stage and not block else 1))
                inputs = 4 * width << stage
            stages.append(nn.Sequential(*row))
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        inside = self.pool(torch.relu(self.bn1(self.conv1(images))))
        return self.fc(self.layers(inside).mean((2, 3)))


class Inverted(nn.Module):  # type: ignore[misc]
    """An inverted residual block: expand, convolve each channel alone, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [*convolution(inputs, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        layers += [*convolution(hidden, hidden, 3, stride, hidden), nn.ReLU6(), *convolution(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the activations after the block."""
        return images + self.conv(images) if self.adds else self.conv(images)


def resnet50() -> nn.Module:
    """Return ResNet-50 v1.5."""
    return ResNet((3, 4, 6, 3))


def tiny() -> nn.Module:
    """Return a residual network that is small enough to try the proof with."""
    return ResNet((1, 1), width=32, classes=10)


def mobilenet_v2() -> nn.Module:
    """Return MobileNetV2."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers: list[nn.Module] = [*convolution(3, 32, 3, 2), nn.ReLU6()]
    inputs = 32
    for expansion, outputs, number, stride in stages:
        for block in range(number):
            layers.append(Inverted(inputs, outputs, stride if block == 0 else 1, expansion))
            inputs = outputs
    pooled = [*convolution(inputs, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, *pooled)


def darknet53() -> nn.Module:
    """Return timm's DarkNet-53, which the catalogue does not have."""
    import timm

    network: Any = timm.create_model("darknet53", pretrained=False)
    return network
