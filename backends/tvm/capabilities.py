"""What can be asked of TVM: on a CPU, and on an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import replace

from backends.base import Capabilities
from backends.tvm.health import NEWEST_FFI
from neverslower.evidence.observation import Evidence
from neverslower.problem.convolution import DType, Layout

CAPABILITIES = Capabilities(
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16}),
    layouts=frozenset(Layout),
    evidence=frozenset({Evidence.DEVICE_TIME, Evidence.DISPATCH}),
    modules=("tvm",),
    packages=("apache-tvm", f"apache-tvm-ffi=={NEWEST_FFI}"),
    compiles=True,
    waits=True,
    # Untuned loops take a hundred times as long as a library's kernel: the default is a few small layers.
    quick_layers=("resnet50.L1", "mobilenet_v2.L7", "mobilenet_v2.L14", "mobilenet_v2.L41"),
    tuned_layers=("resnet50.L16",),
    largest_drawn_macs=2_000_000,
)
ON_CUDA = replace(
    CAPABILITIES,
    evidence=frozenset({Evidence.DEVICE_TIME}),
    watches=True,
    waits=False,
    ahead=True,
    compiles_worth=3,  # NVRTC takes longer than what a CPU needs.
)
