"""Turn the options about models into models: what they name is read, checked, and given the names of its modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neverslower.errors import InvalidProblem, NeverSlowerError
from neverslower.models import child, problem_file
from neverslower.models.words import Input, ModelName, refuse_pickle
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.epilogue import Epilogue
from neverslower.problem.model import LeftOut, Model
from neverslower.problem.networks import Layer


def models(values: Mapping[str, Any]) -> tuple[Model, ...]:
    """Return every model that the options name, in the order files of problems, modules, ONNX files.

    Raises NeverSlowerError for a user's mistake.
    """
    inputs = list(values.get("input") or ())
    for text in inputs:
        Input.parse(text)
    if inputs and not (values.get("model") or values.get("onnx")):
        raise NeverSlowerError("--input gives the shape of a model's input; name the model with --model or --onnx")
    fused = bool(values.get("fused"))
    if fused and not (values.get("model") or values.get("onnx")):
        raise NeverSlowerError(
            "--fused lets the convolutions of a model carry what follows them; name the model with --model or --onnx, "
            "or say what follows with --post-ops"
        )
    names = [ModelName.parse(text) for text in values.get("model") or ()]
    paths = [_onnx_path(text) for text in values.get("onnx") or ()]
    _require_distinct([*(name.name for name in names), *(path.stem for path in paths)])
    if names and not inputs:
        raise NeverSlowerError(f"--model {names[0].text} needs the shape of its input, such as --input 1x3x224x224")
    found = [problem_file.read(Path(text)) for text in values.get("problems") or ()]
    found += [_read(child.TORCH, name.text, name.name, inputs, fused) for name in names]
    found += [_read(child.ONNX, str(path), path.stem, inputs, fused) for path in paths]
    return tuple(found)


def _onnx_path(text: str) -> Path:
    path = Path(text).expanduser()
    refuse_pickle(f"--onnx {text}", text)
    if path.is_dir():
        raise NeverSlowerError(f"--onnx {text} is a directory; name the .onnx file in it")
    if not path.exists():
        raise NeverSlowerError(f"--onnx {text} does not exist")
    return path


def _require_distinct(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise NeverSlowerError(
                f"two models are called {name}; name one yourself, as --model NAME={name}.py:CALLABLE"
            )


def _read(kind: str, text: str, name: str, inputs: Sequence[str], fused: bool) -> Model:
    record = child.read(kind, text, inputs)
    source = (kind, text, *(word for given in inputs for word in ("--input", given)), *(["--fused"] if fused else []))
    left_out = tuple(LeftOut(**left) for left in record["left_out"])
    layers = tuple(_layer(name, layer, source, fused) for layer in record["layers"])
    if not layers:
        counted = Counter(left.what for left in left_out)
        listed = ", ".join(f"{count} {what}" for what, count in counted.items()) or "nothing that multiplies"
        raise NeverSlowerError(
            f"{kind} {text}: no 2-D convolution in it, and nothing else is measured; it has {listed}"
        )
    remarks = list(record["remarks"])
    if fused and any(layer["epilogue"] is None for layer in record["layers"]):
        remarks.append("--fused: a run on the CPU does not show what follows a convolution; they are measured alone")
    return Model(name, layers, left_out, source, tuple(remarks))


def _layer(network: str, record: Mapping[str, Any], source: tuple[str, ...], fused: bool = False) -> Layer:
    fields: dict[str, Any]
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    place, epilogue = fields.pop("place"), fields.pop("epilogue")
    if fused and epilogue:
        fields["epilogue"] = Epilogue.parse(epilogue)
    try:
        # Read back from its key, by which workers are asked for it: what no key can carry is refused here.
        problem = ConvProblem.from_key(ConvProblem(**fields).key)
        return Layer(network, None, place, problem, source=source)
    except InvalidProblem as error:
        raise NeverSlowerError(f"{network}.{place}: {error}") from None
