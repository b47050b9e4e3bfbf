"""Turn the options about models into models: what they name is read, checked, and given the names of its modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neverslower.errors import InvalidProblem, NeverSlowerError
from neverslower.models import child, problem_file
from neverslower.models.words import Input, ModelName, refuse_pickle, split_name
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.epilogue import PLAIN, Epilogue
from neverslower.problem.model import LeftOut, Model
from neverslower.problem.networks import Layer

PRUNED = "--pruned"


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


@dataclass(frozen=True)
class PrunedName:
    """What --pruned names: a kind of model, where it is in that kind's words, its name, and the option's own text."""

    kind: str
    place: str
    name: str
    text: str

    @classmethod
    def parse(cls, text: str, inputs: Sequence[str]) -> PrunedName:
        """Read `[NAME=]FILE.py:CALLABLE`, `[NAME=]package.module:callable` or `[NAME=]FILE.onnx`.

        Raises NeverSlowerError, before either model is read, which takes seconds.
        """
        named, rest = split_name(text)
        if rest.lower().endswith(".onnx"):
            path = _onnx_path(rest, PRUNED)
            return cls(child.ONNX, str(path), named or path.stem, text)
        if not inputs:
            raise NeverSlowerError(f"{PRUNED} {text} needs the shape of its input, such as --input 1x3x224x224")
        return cls(child.TORCH, text, ModelName.parse(text, PRUNED).name, text)


def with_pruned(named: PrunedName, original: Model, inputs: Sequence[str], fused: bool = False) -> tuple[Model, Model]:
    """Return a model and its pruned version; where both have one name, the latter gets `-pruned` behind it.

    Where it is not known of one of them what follows its convolutions, those of both are measured alone. Raises
    NeverSlowerError for a user's mistake.
    """
    name = named.name if named.name != original.name else f"{named.name}-pruned"
    part = _read(named.kind, named.place, name, inputs, fused, (PRUNED, named.text))
    if original.followed and part.followed:
        return original, part
    return _alone(original, part), _alone(part, original)


def _alone(model: Model, other: Model) -> Model:
    """Return a model whose convolutions are measured alone; a remark says so where that is for the other one's sake."""
    because = (
        f"--fused: it is not known what follows the convolutions of {other.title}, so these are measured alone too"
    )
    layers = tuple(layer.with_epilogue(PLAIN) for layer in model.layers)
    return replace(model, layers=layers, remarks=(*model.remarks, *([because] if model.followed else [])))


def _onnx_path(text: str, flag: str = child.ONNX) -> Path:
    path = Path(text).expanduser()
    refuse_pickle(f"{flag} {text}", text)
    if path.is_dir():
        raise NeverSlowerError(f"{flag} {text} is a directory; name the .onnx file in it")
    if not path.exists():
        raise NeverSlowerError(f"{flag} {text} does not exist")
    return path


def _require_distinct(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise NeverSlowerError(
                f"two models are called {name}; name one yourself, as --model NAME={name}.py:CALLABLE"
            )


def _read(
    kind: str, text: str, name: str, inputs: Sequence[str], fused: bool, given: tuple[str, str] | None = None
) -> Model:
    """Return a model; `given` is the option with its value where that is not the one that the kind is named after."""
    option = given or (kind, text)
    try:
        record = child.read(kind, text, inputs)
    except NeverSlowerError as error:
        raise NeverSlowerError(str(error).replace(f"{kind} {text}", " ".join(option), 1)) from None
    shapes = (word for shape in inputs for word in ("--input", shape))
    source = (*option, *shapes, *(["--fused"] if fused else []))
    left_out = tuple(LeftOut(**left) for left in record["left_out"])
    layers = tuple(_layer(name, layer, source, fused) for layer in record["layers"])
    if not layers:
        counted = Counter(left.what for left in left_out)
        listed = ", ".join(f"{count} {what}" for what, count in counted.items()) or "nothing that multiplies"
        raise NeverSlowerError(
            f"{' '.join(option)}: no 2-D convolution in it, and nothing else is measured; it has {listed}"
        )
    remarks = list(record["remarks"])
    followed = not fused or all(layer["epilogue"] is not None for layer in record["layers"])
    if not followed:
        remarks.append("--fused: a run on the CPU does not show what follows a convolution; they are measured alone")
    return Model(name, layers, left_out, source, tuple(remarks), followed, record["digest"])


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
