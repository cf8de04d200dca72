"""Pages in Chromium, opened from disk: their size and colours, and what Deque's axe finds wrong with them.

`tests/report/axe-core/` holds axe 4.14.1, under the Mozilla Public License 2.0.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

PHONE, DESK = (390, 844), (1280, 900)
_AXE = Path(__file__).resolve().parents[1] / "report" / "axe-core" / "axe.min.js"


def start_chromium() -> Any:
    """A headless Chromium; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"):
        options.add_argument(argument)
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(60)
    return browser


def show(browser: Any, page: Path, size: tuple[int, int] = DESK, colours: str = "light") -> None:
    """Open a page.

    Args:
        browser: from `start_chromium`.
        page: the file.
        size: of the window, in pixels.
        colours: "light" or "dark", as the user prefers.
    """
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": colours}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


def violations(browser: Any) -> list[str]:
    """What is seriously wrong with the page that is shown, all of it unfolded: a line each."""
    browser.execute_script("document.querySelectorAll('details').forEach(each => { each.open = true })")
    browser.execute_script(_AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run(document).then(arguments[0])")
    assert len(found["passes"]) > 10, "axe has looked"
    return [
        f"{each['id']}: {node['html']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


def check_everywhere(browser: Any, page: Path) -> None:
    """Show a page on a desk and on a phone, in light and in dark: it fits, and axe finds nothing serious."""
    for size, colours, background in ((DESK, "light", "rgb(244, 244, 242)"), (PHONE, "dark", "rgb(19, 20, 23)")):
        show(browser, page, size, colours)
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == background
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= size[0], f"{page.name} is {wide} pixels wide"
        assert not (wrong := violations(browser)), "\n".join(wrong)
