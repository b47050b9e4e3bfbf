"""Draw the page: one self-contained HTML file that never asks the network for anything.

The template escapes every text. What the page's script shows lies in one compressed block, which it unpacks and puts
on the page as text, never as markup. The content policy names the page's own scripts and styles by their digests, so
that nothing else runs, and forbids every connection.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from neverslower import __version__
from neverslower.page.account import Account, counted_as, document, in_words
from neverslower.page.first_screen import first_screen, kept, key

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "page.html.jinja"
MARK = '<meta name="generator" content="never-slower '
"""The beginning of the line by which a page says that it is one."""
STYLES = ("uPlot.min.css", "page.css")
OURS = ("data", "filter", "heat", "table", "stairs", "grids", "case", "device", "main")
_TURNING = {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""What turns the direction of the text after it is written out, so that no name can make another one read otherwise."""
SCRIPTS = ("uPlot.iife.min.js", *(f"{name}.js" for name in OURS))


def page(account: Account) -> str:
    """Return the text of the page."""
    scripts, styles = [asset(name) for name in SCRIPTS], [asset(name) for name in STYLES]
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            first=first_screen(account),
            policy=_policy(scripts, styles),
            styles=styles,
            scripts=scripts,
            data=packed(account),
            version=__version__,
        )
    )


def packed(account: Account) -> str:
    """Return an account as the page's script reads it: JSON, by gzip, in base64."""
    text = json.dumps(document(account), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.translate({code: json.dumps(shown)[1:-1] for code, shown in _TURNING.items()})
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode()


@cache
def asset(name: str) -> str:
    """Return the text of a file that belongs to the page."""
    return resources.files(__package__).joinpath("assets").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # Most runs draw no page.

    def finalize(value: object) -> object:
        return value.translate(_TURNING) if type(value) is str else value  # What is marked safe is the page's own.

    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters |= {"key": key, "kept": kept, "counted_as": counted_as, "in_words": in_words}
    return environment


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Return the content policy: these scripts and styles, pictures that the page holds itself, and nothing else."""
    allowed = f"script-src {' '.join(map(_digest, scripts))}; style-src {' '.join(map(_digest, styles))}"
    return f"default-src 'none'; {allowed}; img-src data:; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
