"""One headless browser for the page tests; without an installed one they skip by name."""

import shutil
from contextlib import contextmanager

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium or chrome, which this machine lacks")


@contextmanager
def opened(browser, file, ready="#time path.line", **context):
    """The page shown from its file, every request but for the file itself refused; `seen` collects what went wrong."""
    seen = {"requests": [], "errors": []}
    shown = browser.new_context(**context)
    page = shown.new_page()

    def gate(route):
        if route.request.url.startswith(("file:", "data:")):
            return route.continue_()
        seen["requests"].append(route.request.url)
        return route.abort()

    page.route("**/*", gate)
    page.on("console", lambda message: seen["errors"].append(message.text))
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    try:
        page.goto(file.as_uri())
        page.wait_for_selector(ready, timeout=10_000)
        yield page, seen
    finally:
        shown.close()
