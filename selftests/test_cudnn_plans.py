"""Plans that cuDNN built, kept for other processes: found again whole, by the same library only, and never needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.cudnn import CuDNN
from backends.cudnn.choice import CudnnOptions
from backends.cudnn.frontend import BIAS, IMAGE, OUTPUT, RESIDUAL, WEIGHT, BuiltPlan, Frontend, KeptPlan
from backends.cudnn.plans import PlanStore
from neverslower.errors import Unsupported
from neverslower.files.kept import KeptFolders
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.epilogue import Epilogue
from neverslower.problem.subject import Subject
from selftests.support import problem

LIBRARY = {"cudnn": "9.19.0", "gpu": "H200"}
KEPT = KeptPlan(BuiltPlan(2, "eng67_k2=8", 4096), 38, b"a plan")


class Port:
    """A tensor of a graph, which takes every setting."""

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self


class Graph:
    """A graph of which one plan builds; notes what was asked of it."""

    def __init__(self, asked: list[str], refuses: bool = False) -> None:
        self._asked, self._refuses = asked, refuses

    def __getattr__(self, name: str) -> Any:
        def answer(*arguments: Any, **settings: Any) -> Any:
            self._asked.append(name)
            return {"tensor": Port(), "conv_fprop": Port(), "get_execution_plan_count": 38, "serialize": [1, 2]}.get(
                name, {"get_plan_name_at_index": "eng67", "get_workspace_size_plan_at_index": 4096}.get(name)
            )

        return answer

    def deserialize(self, content: bytes) -> None:
        """Load a plan, or refuse it."""
        self._asked.append(f"deserialize {list(content)}")
        if self._refuses:
            raise RuntimeError("CUDNN_STATUS_BAD_PARAM")


def frontend(asked: list[str], plans: PlanStore | None, refuses: bool = False) -> Frontend:
    """A frontend over a library that notes what it is asked."""
    kinds = SimpleNamespace(HALF=0, BFLOAT16=1, FLOAT=2)
    cudnn = SimpleNamespace(
        create_handle=lambda: 0,
        set_stream=lambda handle, stream: None,
        cudnnGraphNotSupportedError=NotImplementedError,
        data_type=kinds,
        heur_mode=SimpleNamespace(A=0, FALLBACK=1),
        numerical_note=SimpleNamespace(TENSOR_CORE=0, DOWN_CONVERT_INPUTS=1),
        pygraph=lambda **settings: Graph(asked, refuses),
    )
    return Frontend(cudnn, None, SimpleNamespace(cuda_stream=0), plans)


def store(folder: Path, **library: str) -> PlanStore:
    return PlanStore(KeptFolders(folder), LIBRARY | library)


def test_what_was_kept_is_found_as_it_was(tmp_path: Path) -> None:
    store(tmp_path).add(problem(13), KEPT)
    assert store(tmp_path).find(problem(13)) == KEPT


@pytest.mark.parametrize("other", [{"cudnn": "9.28.0"}, {"gpu": "H100"}])
def test_another_library_or_device_finds_nothing(tmp_path: Path, other: dict[str, str]) -> None:
    store(tmp_path).add(problem(13), KEPT)
    assert store(tmp_path, **other).find(problem(13)) is None
    assert store(tmp_path).find(problem(14)) is None


def test_a_damaged_plan_is_none(tmp_path: Path) -> None:
    store(tmp_path).add(problem(13), KEPT)
    (path,) = tmp_path.glob("*/plan.bin")
    path.write_bytes(b"another")
    assert store(tmp_path).find(problem(13)) is None


def test_a_folder_that_can_t_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    store(tmp_path / "file").add(problem(13), KEPT)


def test_a_plan_is_built_once_and_then_loaded(tmp_path: Path) -> None:
    asked: list[str] = []
    _, built = frontend(asked, store(tmp_path)).first(problem(13))
    assert "build_plan_at_index" in asked
    asked.clear()
    convolution, loaded = frontend(asked, store(tmp_path)).first(problem(13))
    assert asked == ["deserialize [1, 2]"]
    assert loaded == built
    assert convolution.offered == 38


def test_a_loaded_plan_is_executed_by_the_numbers_of_its_tensors(tmp_path: Path) -> None:
    asked: list[str] = []
    for _ in range(2):
        convolution, plan = frontend(asked, store(tmp_path)).first(problem(13))
    asked.clear()
    convolution.execute({1: "image", 2: "weight"}, "output", "workspace", plan)
    assert asked == ["execute"]


def test_a_plan_that_does_not_load_is_built(tmp_path: Path) -> None:
    asked: list[str] = []
    frontend(asked, store(tmp_path)).first(problem(13))
    asked.clear()
    frontend(asked, store(tmp_path), refuses=True).first(problem(13))
    assert "build_plan_at_index" in asked


def test_nothing_needs_to_be_kept() -> None:
    asked: list[str] = []
    frontend(asked, None).first(problem(13))
    assert "serialize" not in asked


def test_only_plans_of_the_heuristic_that_are_not_kept_are_built_ahead(tmp_path: Path) -> None:
    """A refused problem is left to the request that prepares it, whose answer says why."""
    kept = store(tmp_path)
    kept.add(problem(13), KEPT)
    gpu = object.__new__(CuDNN)
    gpu._choice, gpu._frontend = CudnnOptions(), frontend([], kept)
    subjects = [Subject(problem(12)), Subject(problem(13)), Subject(problem(11), "best"), Subject(problem(10), "torch")]
    assert gpu.missing(subjects) == subjects[:1]
    gpu._frontend = frontend([], None)
    assert gpu.missing(subjects) == []


# What is put into a graph


class Tensor:
    """A tensor of a recorded graph: the operation that makes it, its number, and its shape."""

    def __init__(self, made_by: str) -> None:
        self.made_by, self.number, self.returned = made_by, 0, False
        self.dim: list[int] = []

    def set_uid(self, number: int) -> None:
        self.number = number

    def set_output(self, returned: bool) -> Tensor:
        self.returned = returned
        return self

    def set_dim(self, dim: list[int]) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        return self

    def set_data_type(self, kind: Any) -> Tensor:
        return self


class Recorded:
    """A graph that writes down what is put into it, and the heuristic that it is asked for."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.tensors: list[Tensor] = []
        self.modes: list[str] = []
        self._refused = refused

    def tensor(self, dim: list[int], stride: list[int], data_type: Any) -> Tensor:
        return self._made(Tensor(f"given {dim}").set_dim(dim))

    def __getattr__(self, name: str) -> Any:
        def operation(**settings: Any) -> Tensor:
            inputs = [value.number or value.made_by for value in settings.values() if isinstance(value, Tensor)]
            return self._made(Tensor(f"{name}{inputs}"))

        return operation if name in ("conv_fprop", "bias", "add", "relu", "swish") else lambda *asked: None

    def create_execution_plans(self, modes: list[str]) -> None:
        if modes[0] in self._refused:
            raise NotImplementedError("no engine")
        self.modes += modes

    def _made(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor)
        return tensor


def recorded(*refused: str) -> tuple[Recorded, Frontend]:
    graph, made = Recorded(refused), frontend([], None)
    made.cudnn.pygraph, made.cudnn.heur_mode = lambda **settings: graph, SimpleNamespace(A="A", FALLBACK="FALLBACK")
    return graph, made


FP16 = problem(16, dtype=DType.FLOAT16, layout=Layout.NHWC, batch=2)


@pytest.mark.parametrize(
    ("epilogue", "made"),
    [
        ("bias", ["conv_fprop[1, 2]", "bias['conv_fprop[1, 2]', 4]"]),
        ("relu", ["conv_fprop[1, 2]", "relu['conv_fprop[1, 2]']"]),
        ("sum+swish:1", ["conv_fprop[1, 2]", "add['conv_fprop[1, 2]', 5]", "swish["]),
        ("bias+sum+relu", ["conv_fprop[1, 2]", "bias[", "add[", "relu["]),
        ("relu+sum", ["conv_fprop[1, 2]", "relu[", "add["]),
    ],
)
def test_an_epilogue_is_in_the_same_graph_in_its_order(epilogue: str, made: list[str]) -> None:
    graph, library = recorded()
    library.convolution(replace(FP16, epilogue=Epilogue.parse(epilogue)))
    operations = [tensor for tensor in graph.tensors if not tensor.made_by.startswith("given")]
    for operation, beginning in zip(operations, made, strict=False):
        assert operation.made_by.startswith(beginning)
    assert [(tensor.number, tensor.dim) for tensor in operations if tensor.returned] == [(OUTPUT, [2, 16, 6, 6])]
    assert operations[-1].returned
    given = {tensor.number: tensor.dim for tensor in graph.tensors if tensor.made_by.startswith("given")}
    added = {BIAS: [1, 16, 1, 1]} if "bias" in epilogue else {}
    added |= {RESIDUAL: [2, 16, 6, 6]} if "sum" in epilogue else {}
    assert given == {IMAGE: [2, 8, 6, 6], WEIGHT: [16, 8, 3, 3]} | added


def test_a_plain_convolution_is_a_graph_of_one_operation() -> None:
    graph, library = recorded()
    library.convolution(FP16)
    assert [tensor.number for tensor in graph.tensors] == [IMAGE, WEIGHT, OUTPUT]


def test_the_fallback_heuristic_is_asked_alone_and_where_the_first_one_refuses() -> None:
    graph, library = recorded()
    library.fallback(FP16)
    assert graph.modes == ["FALLBACK"]
    graph, library = recorded("A")
    library.convolution(FP16)
    assert graph.modes == ["FALLBACK"]
    with pytest.raises(Unsupported, match="no engine"):
        recorded("A", "FALLBACK")[1].convolution(FP16)


def test_a_fused_plan_is_kept_apart_from_the_plain_one(tmp_path: Path) -> None:
    store(tmp_path).add(FP16, KEPT)
    assert store(tmp_path).find(replace(FP16, epilogue=Epilogue(True))) is None
