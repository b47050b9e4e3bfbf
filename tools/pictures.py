"""Draw the pictures of the documentation from committed records: parts of pages, as a browser shows them.

`make pictures`. Needs playwright and a Chromium, as selftests/test_page_browser.py does.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from neverslower.page import html
from neverslower.page.reading import account_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
ONEDNN = "baselines/onednn@intel-xeon-processor-2c/0001_3.12.0+80afa71.json"
H100 = "baselines/cudnn@nvidia-h100-80gb-hbm3/maps/resnet50-float16-NHWC.json.xz"
H200 = "bench/data/journals/cudnn-h200-resnet50-float16.jsonl.xz"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ROOM = 12
"""Pixels around the part that is shown."""
READY = "html[data-ready=yes]"


@dataclass(frozen=True)
class Picture:
    """One picture: its name, the record, what the address asks for, and the part of the page that is shown.

    `part` is a selector, empty for what is in sight of a screen of `width` by `height` pixels.
    """

    name: str
    record: str
    address: str = ""
    part: str = ""
    width: int = 1000
    height: int = 780
    scheme: str = "light"
    layer: str = "*"
    scale: float = 1.0


CASE = "case=0/mb1_g1ic1024oc2048_ih14oh7kh1sh2ph0-float16-NHWC>mb1_g1ic1024oc2047_ih14oh7kh1sh2ph0-float16-NHWC"
PICTURES = (
    Picture("heat-onednn.png", ONEDNN, part="#heat .body", width=1100, height=1200, scale=0.75),
    Picture("staircase-h100.png", H100, part="#stairs", height=1200, layer="resnet50.L16"),
    Picture("case-h200.png", H200, CASE, "#case", scheme="dark"),
    Picture("phone-h200.png", H200, width=390, height=780, scheme="dark"),
)


def _clip(shown: Any, picture: Picture) -> dict[str, Any]:
    """Return which part of the page to show, with room around it; all that is in sight where no part is named."""
    if not picture.part:
        return {}
    shown.locator(picture.part).scroll_into_view_if_needed()
    box = shown.locator(picture.part).bounding_box()
    around = {"x": max(0, box["x"] - ROOM), "y": max(0, box["y"] - ROOM)}
    return {"clip": {**around, "width": box["width"] + 2 * ROOM, "height": box["height"] + 2 * ROOM}}


def main(pictures: Sequence[Picture] = PICTURES) -> None:
    """Draw each picture, and print its path and size."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit("never-slower: no browser. Remedy: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-lcd-text"])
        for picture in pictures:
            page = Path(folder) / "page.html"
            page.write_text(html.page(account_of([ROOT / picture.record], picture.layer)), encoding="utf-8")
            viewport = {"width": picture.width, "height": picture.height}
            how = {"color_scheme": picture.scheme, "device_scale_factor": picture.scale, "offline": True}
            context = browser.new_context(viewport=viewport, **how)
            shown = context.new_page()
            shown.goto(f"file://{page}#{quote(picture.address, safe='=/&.-')}")
            shown.locator(READY).wait_for(state="attached")
            path = FOLDER / picture.name
            shown.screenshot(path=path, **_clip(shown, picture))
            context.close()
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
