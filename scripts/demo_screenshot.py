"""Types a sentence into a running `hf-nat demo`, prints what the page then shows and saves a picture of it.

pip install playwright; apt-get install chromium
python scripts/demo_screenshot.py --address http://127.0.0.1:7860 --sentence "A man reads a book." --output page.png
"""

from __future__ import annotations

import argparse

from playwright.sync_api import sync_playwright


# A page on this machine needs nothing of the network.
_OFFLINE = ("background-networking", "component-update", "sync", "quic", "gpu")


def main() -> None:
    """Drives Debian's Chromium without a window."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--address", default="http://127.0.0.1:7860", help="where the page is")
    parser.add_argument("--sentence", required=True, help="what to type")
    parser.add_argument("--output", required=True, help="PNG file to write")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        options = ["--no-sandbox", *(f"--disable-{name}" for name in _OFFLINE)]
        browser = playwright.chromium.launch(executable_path=args.chromium, args=options)
        # Without motion everything is there at once.
        page = browser.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
        page.goto(args.address, wait_until="domcontentloaded")
        page.get_by_label("Sentence").fill(args.sentence)
        page.get_by_role("button", name="Translate").click()
        shown = page.locator(".nat")
        shown.wait_for()
        print(shown.inner_text())
        page.wait_for_timeout(1000)  # Gradio fades in what is new.
        page.screenshot(path=args.output, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
