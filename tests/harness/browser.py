"""The browser of the tests: an installed Chromium or Chrome, playwright's, or Debian's package.

`python tests/harness/browser.py` makes sure that there is one and prints its path.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
# the emoji are the art of the wide world, whose tests are skipped without them
DEBIAN_PACKAGES = ("chromium", "fonts-liberation", "fonts-noto-color-emoji")
EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")

# Without the background switches, Chromium asks its maker's hosts at every start.
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """The executable of a browser that playwright can drive; None if there is none."""
    named = os.environ.get("BLIP3U_BROWSER")
    if named:
        return named
    for command in COMMANDS:
        found = shutil.which(command)
        if found:
            return found
    with sync_playwright() as playwright:
        places = [*PLACES, playwright.chromium.executable_path]
    return next((place for place in places if Path(place).is_file()), None)


def can_install() -> bool:
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install_browser() -> None:
    """Debian's chromium, where we may install it. Raises RuntimeError where we may not."""
    if not can_install():
        raise RuntimeError(
            "the browser tests need Chromium or Chrome, and none was found. Install one (Debian: "
            "apt install chromium; any system: python -m playwright install chromium in the "
            "environment of the tests) or name its program in BLIP3U_BROWSER."
        )
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *DEBIAN_PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def main() -> int:
    if find_browser() is None or (can_install() and not EMOJI_FONT.is_file()):
        try:
            install_browser()
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            if find_browser() is None:
                return 1
    print(f"browser: {find_browser()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
