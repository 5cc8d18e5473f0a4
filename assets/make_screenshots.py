"""Take the README's screenshots of a running page: ``python app.py --port 7860`` first.

Needs the packages of tests/requirements.txt, and Chromium. With other options it photographs every
tab from top to bottom, to be looked at: ``--width 390 --dark --out /tmp/phone``.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).resolve().parent / "screenshots"
PATIENT = 600_000  # milliseconds: the first example may still be computed

TABS = {
    "result": ("Result", 1300),
    "coarse": ("Coarse blocks", 1600),
    "fine": ("Fine matching", 1600),
    "adaptation": ("Adaptation", 1300),
    "aggregation": ("Aggregation", 1300),
    "pixel": ("One pixel", 1600),
    "cost": ("Cost", 1300),
    "laboratory": ("SAM laboratory", 1945),
    "align": ("Align", 2050),
}
"""A tab's label, and the rows of it that the README shows."""

TURNED = "Painted wall"
"""The example that the tab "Align" shows: its reference is seen at a slant."""

SETTLED = """
() => {
  if (document.querySelector('#bar progress, #lab-bar progress')) return false;
  const figures = [...document.querySelectorAll('.figure')].filter((f) => f.offsetParent);
  if (!figures.every((f) => f.querySelector('img'))) return false;
  const pictures = [...document.querySelectorAll('.tabitem img')].filter((i) => i.offsetParent);
  for (const picture of pictures) picture.loading = 'eager';
  if (!pictures.every((i) => i.complete && i.naturalWidth)) return false;
  const seen = pictures.map((i) => i.src).join() + document.querySelector('#results').innerText;
  const same = window.seenBefore === seen;
  window.seenBefore = seen;
  return same;
}
"""
"""Nothing runs, every figure is there and loaded, and all is as it was when last asked."""


def wait(page: Page) -> None:
    """Until the open tab is drawn to its end."""
    page.wait_for_function(SETTLED, polling=1500, timeout=PATIENT)


def save(page: Page, path: Path, rows: int | None) -> None:
    """Photograph the page's first ``rows`` rows, or all of it, as a small WebP."""
    width = page.viewport_size["width"] if page.viewport_size else 0
    area = {"x": 0, "y": 0, "width": width, "height": rows or 0}
    png = page.screenshot(full_page=True, clip=area if rows else None)  # type: ignore[arg-type]
    Image.open(io.BytesIO(png)).convert("RGB").save(path, quality=88, method=6)


def opened(browser: Browser, url: str, width: int, dark: bool) -> Page:
    """The page with its first example finished."""
    scheme = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page.goto(f"{url}/?__theme={scheme}", timeout=PATIENT)
    page.wait_for_selector("#report table", timeout=PATIENT)
    wait(page)
    return page


def take_tabs(page: Page, folder: Path, whole: bool) -> None:
    """One picture per tab; the laboratory's after a sweep with every network that is chosen."""
    for name, (label, rows) in TABS.items():
        if name == "align":
            page.locator("#examples button", has_text=TURNED).click()
            report = page.locator("#report", has_text="at a slant")
            report.wait_for(state="attached", timeout=PATIENT)  # another tab may be open
        page.get_by_role("tab", name=label).click()
        if name == "laboratory":
            page.wait_for_selector("#lab-preview img", timeout=PATIENT)
            page.locator("#lab-go").click()
            page.wait_for_selector("#lab-table table", timeout=PATIENT)
        wait(page)
        page.mouse.move(0, 0)
        save(page, folder / f"{name}.webp", None if whole else rows)


def main() -> None:
    """One picture per tab, and one on a phone in the dark."""
    parser = argparse.ArgumentParser(description="Take the README's screenshots.")
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, help="a folder, to photograph whole tabs instead")
    parser.add_argument("--width", type=int, default=1400, help="of those, pixels")
    parser.add_argument("--dark", action="store_true", help="those in the dark")
    args = parser.parse_args()
    (args.out or HERE).mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        if args.out:
            take_tabs(opened(browser, args.url, args.width, args.dark), args.out, whole=True)
        else:
            take_tabs(opened(browser, args.url, 1400, dark=False), HERE, whole=False)
            save(opened(browser, args.url, 390, dark=True), HERE / "phone.webp", 844)
        browser.close()


if __name__ == "__main__":
    main()
