"""The browser of the page tests, opened once for each file of them."""

import pytest
from browser import BROWSER, QUIET


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("needs chromium or chrome, which this machine lacks")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield running
        running.close()
