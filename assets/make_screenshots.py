"""Take the README's screenshots of a running page: ``python app.py --port 7860`` first.

Needs the packages of tests/requirements.txt, and Chromium.
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent / "screenshots"
TABS = {
    "result": "Result",
    "coarse": "Coarse blocks",
    "fine": "Fine matching",
    "adaptation": "Adaptation",
    "aggregation": "Aggregation",
    "pixel": "One pixel",
    "cost": "Cost",
}

TALL = 1600
"""Rows that show the figures of tabs with controls, too."""


def take(page: Page, name: str, height: int) -> None:
    """Photograph the page's first ``height`` rows as a small palette PNG."""
    path = HERE / f"{name}.png"
    width = page.viewport_size["width"] if page.viewport_size else 1400
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(3000)
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """One picture per tab, and one on a phone in the dark."""
    parser = argparse.ArgumentParser(description="Take the README's screenshots.")
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    url = parser.parse_args().url
    HERE.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(url)
        page.wait_for_selector("#report table", timeout=300_000)
        page.wait_for_timeout(8000)
        for name, label in TABS.items():
            page.get_by_role("tab", name=label).click()
            take(page, name, TALL if name in ("coarse", "fine", "pixel") else 1300)
        phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        phone.goto(f"{url}/?__theme=dark")
        phone.wait_for_selector("#report table", timeout=300_000)
        phone.locator("#network").scroll_into_view_if_needed()
        phone.evaluate("document.querySelector('#network').scrollIntoView()")
        take(phone, "phone", 844)
        browser.close()


if __name__ == "__main__":
    main()
