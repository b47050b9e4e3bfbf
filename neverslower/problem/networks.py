"""The convolutions of AlexNet, VGG-16, ResNet-50 v1.5, MobileNetV1 and MobileNetV2, at batch 1 on 224×224 images.

A layer's index counts the network's convolutions in module order from 0, which makes ResNet-50's indices those of
Radu et al. (IISWC 2019): `resnet50.L16` is `layer2.1.conv2`, 28×28, 128→128, 3×3. Sources of the shapes: Krizhevsky
2014 (one-column AlexNet, as torchvision has it), Simonyan & Zisserman 2015, He et al. 2016 with the stride in the
3×3 (v1.5), Howard et al. 2017, Sandler et al. 2018.
"""

from __future__ import annotations

import difflib
import fnmatch
import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from neverslower.errors import UnknownName
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import Epilogue


@dataclass(frozen=True)
class Layer:
    """A named place in a network, holding one problem; `places` lists every place where the same shape occurs.

    A layer of the catalogue has an `index`, and an `alias` where torchvision names its place otherwise. One of the
    user's own has none, and a `source`: the options that bring it in. `batch` is set where the user chose another one.
    """

    network: str
    index: int | None
    place: str
    problem: ConvProblem
    places: tuple[str, ...] = ()
    alias: str = ""
    source: tuple[str, ...] = ()
    batch: int | None = None

    @property
    def name(self) -> str:
        """Return the name, such as `resnet50.L16`, `mymodel.layer2.1.conv2`, or `resnet50.L16@8` at batch 8."""
        return f"{self._plain_name}@{self.batch}" if self.batch else self._plain_name

    @property
    def _plain_name(self) -> str:
        if not self.network:
            return self.place
        return f"{self.network}.{self.place if self.index is None else f'L{self.index}'}"

    @property
    def title(self) -> str:
        """Return the name, and next to it the place where the name does not hold it: `resnet50.L16 layer2.1.conv2`."""
        return f"{self.name} {self.place}" if self.index is not None and self.network else self.name

    @property
    def options(self) -> list[str]:
        """Return the options by which a run selects this layer, word by word."""
        named = ["--layer", glob.escape(self._plain_name)] if self.network else []
        batch = ["--batch", str(self.batch)] if self.batch else []
        return [*(self.source if named or self.source else ("--problem", self.place)), *named, *batch]

    def matches(self, pattern: str) -> bool:
        """Return whether a shell-style pattern matches the name or the place, with or without the network's name.

        Without it only a layer of the user's own answers, since the catalogue's networks share the names of places.
        """
        places = [place for place in (self.place, self.alias) if place]
        names = [self._plain_name, *(f"{self.network}.{place}" for place in places if self.network)]
        return any(fnmatch.fnmatchcase(name, pattern) for name in (names if self.index is not None else names + places))

    def with_batch(self, batch: int) -> Layer:
        """Return the same layer for so many images at once; its name says so where that is another number."""
        if batch == self.problem.batch:
            return self
        return replace(self, problem=replace(self.problem, batch=batch), batch=batch)

    def with_epilogue(self, epilogue: Epilogue) -> Layer:
        """Return the same layer with another epilogue."""
        return replace(self, problem=replace(self.problem, epilogue=epilogue))

    def with_format(self, dtype: DType, layout: Layout) -> Layer:
        """Return the same layer computed in another dtype and layout."""
        return replace(self, problem=replace(self.problem, dtype=dtype, layout=layout))


class _Builder:
    """Follows the activations through a network, one convolution after another."""

    def __init__(self, name: str, channels: int = 3, size: int = 224) -> None:
        self.name, self.channels, self.size = name, channels, size
        self.layers: list[Layer] = []

    def conv(
        self, place: str, out: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1, alias: str = ""
    ) -> None:
        """Append a convolution of the current activations and move on to its output."""
        problem = ConvProblem(
            in_channels=self.channels,
            height=self.size,
            width=self.size,
            out_channels=out,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(padding,) * 4,
            groups=groups,
        )
        self.layers.append(Layer(self.name, len(self.layers), place, problem, alias=alias))
        self.channels, self.size = out, problem.out_height

    def pool(self, kernel: int, stride: int, padding: int = 0) -> None:
        """Shrink the current activations."""
        self.size = (self.size + 2 * padding - kernel) // stride + 1


def _alexnet() -> list[Layer]:
    net = _Builder("alexnet")
    net.conv("features.0", 64, 11, stride=4, padding=2)
    net.pool(3, 2)
    net.conv("features.3", 192, 5, padding=2)
    net.pool(3, 2)
    net.conv("features.6", 384, 3, padding=1)
    net.conv("features.8", 256, 3, padding=1)
    net.conv("features.10", 256, 3, padding=1)
    return net.layers


def _vgg16() -> list[Layer]:
    net = _Builder("vgg16")
    feature = 0
    for block, (channels, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for position in range(1, repeats + 1):
            net.conv(f"conv{block}_{position}", channels, 3, padding=1, alias=f"features.{feature}")
            feature += 2  # torchvision counts the activation after each convolution, and the pooling after each block.
        net.pool(2, 2)
        feature += 1
    return net.layers


def _resnet50() -> list[Layer]:
    net = _Builder("resnet50")
    net.conv("conv1", 64, 7, stride=2, padding=3)
    net.pool(3, 2, padding=1)
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            place = f"layer{stage}.{block}"
            channels, size = net.channels, net.size
            net.conv(f"{place}.conv1", width, 1)
            net.conv(f"{place}.conv2", width, 3, stride=stride, padding=1)
            net.conv(f"{place}.conv3", 4 * width, 1)
            if block == 0:
                # The shortcut starts from the block's input again, and ends in the same shape as conv3.
                net.channels, net.size = channels, size
                net.conv(f"{place}.downsample", 4 * width, 1, stride=stride, alias=f"{place}.downsample.0")
    return net.layers


def _mobilenet_v1() -> list[Layer]:
    net = _Builder("mobilenet_v1")
    net.conv("conv1", 32, 3, stride=2, padding=1)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for block, (stride, width) in enumerate(zip(strides, widths, strict=True), start=1):
        net.conv(f"block{block}.depthwise", net.channels, 3, stride=stride, padding=1, groups=net.channels)
        net.conv(f"block{block}.pointwise", width, 1)
    return net.layers


def _mobilenet_v2() -> list[Layer]:
    net = _Builder("mobilenet_v2")
    net.conv("conv1", 32, 3, stride=2, padding=1, alias="features.0.0")
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    block = 0
    for expansion, width, repeats, first_stride in stages:
        for repeat in range(repeats):
            block += 1
            stride, hidden = (first_stride if repeat == 0 else 1), net.channels * expansion
            expands, conv = int(expansion > 1), f"features.{block}.conv"
            if expands:
                net.conv(f"block{block}.expand", hidden, 1, alias=f"{conv}.0.0")
            depthwise = f"{conv}.{expands}.0"
            net.conv(f"block{block}.depthwise", hidden, 3, stride, padding=1, groups=hidden, alias=depthwise)
            net.conv(f"block{block}.project", width, 1, alias=f"{conv}.{expands + 1}")
    net.conv("last", 1280, 1, alias=f"features.{block + 1}.0")
    return net.layers


NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "alexnet": _alexnet,
    "vgg16": _vgg16,
    "resnet50": _resnet50,
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
}


@cache
def network(name: str) -> tuple[Layer, ...]:
    """Return every convolution of a network in module order. Raises UnknownName, listing the known networks."""
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UnknownName(f"unknown network {name!r}{hint} (known: {', '.join(NETWORKS)})")
    return tuple(NETWORKS[name]())


def distinct_layers(layers: Iterable[Layer]) -> list[Layer]:
    """Return the first layer of each distinct problem, carrying the names of all the places where it occurs."""
    first: dict[ConvProblem, Layer] = {}
    places: dict[ConvProblem, list[str]] = {}
    for layer in layers:
        first.setdefault(layer.problem, layer)
        if layer.network or layer.source:
            places.setdefault(layer.problem, []).append(layer.title)
    return [replace(layer, places=tuple(places.get(problem, ()))) for problem, layer in first.items()]
