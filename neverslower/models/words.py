"""What users write of their models: the name of a callable, the shape of an input. Nothing is imported or opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from neverslower.errors import NeverSlowerError

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".pt2", ".safetensors")
_NAME = r"[\w.+-]+"
_EXPORT = "torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), 'model.onnx', external_data=False)"
DTYPES = ("float32", "float16", "bfloat16", "int64", "int32", "bool")


@dataclass(frozen=True)
class ModelName:
    """A callable as the user names it: `[NAME=]FILE.py:CALLABLE` or `[NAME=]package.module:callable`.

    `option` is the one that gives it, empty where that is not known.
    """

    text: str
    name: str
    module: str
    attribute: str
    path: Path | None = None
    option: str = "--model"

    @property
    def flag(self) -> str:
        """Return what messages call it: the option with its value."""
        return _flag(self.option, self.text)

    @classmethod
    def parse(cls, text: str, option: str = "--model") -> ModelName:
        """Read the name that an option gives. Raises NeverSlowerError with what is wrong and what is right."""
        flag = _flag(option, text)
        named, rest = split_name(text)
        place, colon, attribute = rest.rpartition(":")
        refuse_pickle(flag, place or rest)
        if not (colon and place and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", attribute)):
            raise NeverSlowerError(f"{flag}: name a callable, as FILE.py:CALLABLE or package.module:callable")
        if not place.endswith(".py"):
            if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", place):
                raise NeverSlowerError(f"{flag}: {place} is neither a file that ends in .py nor a module's name")
            return cls(text, _checked(flag, named or attribute.rpartition(".")[2]), place, attribute, option=option)
        path = Path(place).expanduser()
        if path.is_dir() or not path.exists():
            what = "is a directory" if path.is_dir() else "does not exist"
            raise NeverSlowerError(f"{flag}: {place} {what}; name the Python file that holds {attribute}")
        return cls(text, _checked(flag, named or path.stem), "", attribute, path.resolve(), option)


@dataclass(frozen=True)
class Input:
    """The shape of one input, `[NAME=]1x3x224x224[:DTYPE]`."""

    shape: tuple[int, ...]
    name: str = ""
    dtype: str = "float32"

    @property
    def shape_words(self) -> str:
        """Return the shape as users write it."""
        return "x".join(map(str, self.shape))

    @classmethod
    def parse(cls, text: str) -> Input:
        """Read a shape. Raises NeverSlowerError."""
        name, _, rest = text.rpartition("=")
        sizes, colon, dtype = rest.partition(":")
        try:
            shape = tuple(int(size) for size in re.split(r"[x,×]", sizes.strip()))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1 or max(shape) > 10**9 or (colon and dtype not in DTYPES):
            raise NeverSlowerError(
                f"--input {text!r} is not a shape such as 1x3x224x224; before it a name may stand (mask=1x77), and "
                f"after it a dtype (1x77:int64; {', '.join(DTYPES)})"
            )
        return cls(shape, name, dtype or "float32")


def _flag(option: str, text: str) -> str:
    return f"{option} {text}".strip()


def split_name(text: str) -> tuple[str, str]:
    """Return (name, rest) of `NAME=…`; without a name it is empty."""
    name, _, rest = text.partition("=")
    return (name, rest) if rest and re.fullmatch(_NAME, name) else ("", text)  # A path may hold a = too.


def refuse_pickle(flag: str, place: str) -> None:
    """Raise NeverSlowerError for a file of weights or a pickled module: opening one may run anything."""
    if place.lower().endswith(_PICKLES):
        raise NeverSlowerError(
            f"{flag}: {Path(place).suffix} files hold pickles or weights alone, and no pickle is ever loaded here; "
            f"name the Python that builds the model, as --model FILE.py:CALLABLE, or export it: {_EXPORT}"
        )


def _checked(flag: str, name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise NeverSlowerError(f"{flag}: {name!r} can't name a model; use letters, digits, and any of _.+-")
    return name
