"""The widget of a long sequence: its messages as a kernel sends them, and a browser whose page queries Python by it."""

import base64
import json
import struct
from importlib import resources

import pytest
import torch

import sightline
from tests.lens.browser import BROWSER, QUIET, needs_browser

LENGTHS = [5, 701]


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    encoder = sightline.build("self-attention", vocabulary=99, width=12, layers=2, heads=3, causal=True)
    with torch.no_grad(), sightline.watch(encoder, keep_map=True) as seen:
        encoder(sightline.Sequences(torch.randint(99, (sum(LENGTHS),)), [0, 5, 706]))
    return seen


class Kernel:
    """The side of Python, without a front end: what the widget sends is kept."""

    def __init__(self, widget):
        self.widget, self.sent = widget, []
        widget.comm.send = lambda data=None, buffers=None, **_: self.sent.append((data.get("content"), buffers))

    def ask(self, **question):
        message = {"data": {"method": "custom", "content": question}}
        self.widget.comm.handle_msg({"content": message, "buffers": []})
        return self.sent.pop()


@pytest.fixture
def kernel(seen):
    widget = seen.widget([f"w{i}" for i in range(701)], sequence=1)
    yield Kernel(widget)
    widget.close()


def test_a_question_is_answered_with_the_bytes_of_the_observation(seen, kernel):
    params = {"view": "1.2", "at": 1, "row": 650, "column": 17}
    about, (answer,) = kernel.ask(view="a", id=7, name="cell", params=params)
    assert about == {"view": "a", "id": 7}
    assert struct.unpack("<2f", answer)[0] == pytest.approx(
        float(seen.tile(1, 2, (650, 651), (17, 18), 1).mean), rel=1e-5
    )
    params = {"view": "0.1", "level": "pieces", "first": 700, "stop": 701}
    _, (answer,) = kernel.ask(view="b", id=8, name="rows", params=params)
    result = torch.frombuffer(bytearray(answer), dtype=torch.float32)
    torch.testing.assert_close(result, seen.tile(0, 1, (700, 701), None, 1).mean[0])


def test_a_question_that_is_none_is_answered_with_a_sentence(kernel):
    about, buffers = kernel.ask(view="a", id=1, name="everything", params={})
    assert "got 'everything'" in about.pop("error") and about == {"view": "a", "id": 1} and not buffers
    about, _ = kernel.ask()
    assert "got None" in about["error"]
    about, _ = kernel.ask(id=2, name="cell", params={"view": "9.9", "at": 1, "row": 0, "column": 0})
    assert "expected a view" in about["error"]


def test_the_page_asks_by_message_and_holds_no_map(kernel):
    page = kernel.widget.page
    assert '"by":"message"' in page and "map/" not in page.split('id="data"')[1].split("</script>")[0]
    assert len(page) < 400_000


def test_closing_ends_its_thread(seen):
    widget = seen.widget(sequence=1)
    thread = widget._answers._thread
    assert thread.is_alive()
    widget.close()
    assert not thread.is_alive()


@needs_browser
def test_a_browser_draws_it_and_asks_through_the_cell(kernel):
    """A stand-in for the front end's model is bridged to Python; two cells of one widget get only their own answers."""
    from playwright.sync_api import sync_playwright

    options, errors = [], []

    def ask(question: str) -> str:
        question = json.loads(question)
        options.append(question["name"])
        about, buffers = kernel.ask(**question)
        return json.dumps([about, [base64.b64encode(one).decode() for one in buffers or []]])

    script = (resources.files("sightline.lens") / "assets" / "widget.js").read_text("utf-8")
    cell = """
      window.heard = new Set();
      const model = {
        get: (name) => window.traits[name],
        async send(content) {
          const [about, buffers] = JSON.parse(await window.ask(JSON.stringify(content)));
          const bytes = (text) => Uint8Array.from(`_${atob(text)}`, (letter) => letter.charCodeAt(0));
          const views = buffers.map((text) => new DataView(bytes(text).buffer, 1));
          for (const each of window.heard) each(about, views);
        },
        on: (_, each) => window.heard.add(each), off: (_, each) => window.heard.delete(each),
      };
      window.undo = [0, 1].map(() => {
        const el = document.createElement("div");
        document.body.append(el);
        return widget.render({ model, el });
      });
    """
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=QUIET)
        tab = browser.new_page(viewport={"width": 1100, "height": 900})
        tab.on("console", lambda message: errors.append(message.text))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.route("**/*", lambda route: (errors.append(route.request.url), route.abort()))
        tab.expose_function("ask", ask)
        traits = {"page": kernel.widget.page, "height": kernel.widget.height}
        tab.evaluate("traits => { window.traits = traits; }", traits)
        tab.add_script_tag(content=script.replace("export default", "const widget =") + cell, type="module")
        for frame in (0, 1):
            inside = tab.frame_locator(f"iframe >> nth={frame}")
            inside.locator("body[data-drawn]").wait_for(timeout=30_000)
            inside.locator(".unit[data-i='12']").click()
            inside.locator(".say", has_text="w12").wait_for(timeout=30_000)
        assert {"rows", "tile"} <= set(options) and errors == []
        tab.evaluate("window.undo.forEach((end) => end())")
        before = len(options)
        assert tab.evaluate("window.heard.size") == 0
        tab.frame_locator("iframe >> nth=0").locator(".unit[data-i='14']").click()
        tab.wait_for_timeout(300)
        assert len(options) == before
        browser.close()
