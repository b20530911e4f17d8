"""What the page shows of a function is that function, and what the heads really gave."""

import base64

import numpy as np
import pytest
import torch

from sightline.comparison.exhibit import LONGEST, exhibit, layout, typical
from sightline.observe import influence_on, watch
from sightline.sequences import Sequences
from sightline.tasks import Examples, load, scope
from sightline.training.config import RunConfig
from sightline.training.model import Model


@pytest.fixture(scope="module")
def data():
    return load("scope")


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    return Model(RunConfig().changed(width=16, layers=2, heads=2, causal=False), data.task, data.tokenizer)


@pytest.fixture(scope="module")
def shown(data, model):
    return exhibit(model, data.valid, data.test)


def test_the_weights_are_those_of_the_model(data, model, shown):
    one = data.test.take([typical(data.test)])
    n = len(one.inputs.values)
    weights = np.frombuffer(base64.b64decode(shown["weights"]), "<u2").reshape(2, 2, n, n) / 65535
    with torch.no_grad(), watch(model) as seen:
        scores = model(one.inputs)
    for layer in range(2):
        np.testing.assert_allclose(weights[layer], seen.layer(layer).weights(0).numpy(), atol=1e-5)
    for token, row in zip(shown["tokens"], scores.softmax(-1), strict=True):
        if token["gold"] is not None:
            assert token["answer"] == scope.ROLES[int(row.argmax())]
            assert token["probability"] == pytest.approx(float(row.max()), abs=1e-3)


def test_influence_is_the_share_of_each_input(data, model, shown):
    one = data.test.take([typical(data.test)])
    n = len(one.inputs.values)
    shares = np.frombuffer(base64.b64decode(shown["influence"]), "<u2").reshape(n, n) / 65535
    np.testing.assert_allclose(shares.sum(-1), 1, atol=n / 65535)
    exact = influence_on(model, one.inputs.values, [3, n - 1])
    exact = (exact / exact.sum(-1, keepdim=True)).numpy()
    assert np.abs(shares[[3, n - 1]] - exact).sum(-1).max() < 0.2  # by few probes


def test_a_use_and_its_binding_are_spelled_alike(shown):
    tokens = shown["tokens"]
    uses = [token for token in tokens if token["binding"] is not None]
    assert len(uses) >= 12 and len({token["text"] for token in uses}) >= 6
    assert all(tokens[token["binding"]]["text"] == token["text"] for token in uses)
    assert tokens[shown["start"]] in uses
    assert {token["gold"] for token in tokens} <= {None, *scope.ROLES}


def test_the_code_stands_as_it_was_written(data, shown):
    text = "".join(token["space"] + token["text"] for token in shown["tokens"])
    for glyph in "↵→←":
        text = text.replace(glyph, "")
    compile(text, "shown", "exec")
    assert text.startswith("def ") and "\n    " in text


def test_the_head_is_chosen_by_other_functions(data, model, shown):
    chosen = shown["chosen"]
    again = exhibit(model, data.valid, data.test.take([typical(data.test)]))
    assert again["chosen"] == chosen
    assert f"layer {chosen['layer']}, head {chosen['head']}:" in shown["about"][1]
    uses = [(i, token["binding"]) for i, token in enumerate(shown["tokens"]) if token["binding"] is not None]
    weights = np.frombuffer(base64.b64decode(shown["weights"]), "<u2").reshape(2, 2, *[len(shown["tokens"])] * 2)
    mass = np.mean([weights[chosen["layer"], chosen["head"], i, binding] for i, binding in uses]) / 65535
    assert f"in this function it is {mass:.0%}" in shown["about"][1].lower()


def test_no_function_that_fits_is_no_exhibit(model):
    ids = torch.zeros(LONGEST + 1, dtype=torch.int64)
    none = torch.full_like(ids, -1)
    long = Examples(Sequences(ids, [0, len(ids)]), none, per_token=True, distances=none, links=none, texts=[None])
    assert typical(long) is None
    assert exhibit(model, long, long) is None


TRICKY = '''\
  def f(a,  b=1,
        *, c):  # why
      """A docstring; return x
      # of two lines."""; x = a \\
          + b

      # a comment with a quote "
      return {'x':  f"{x}{'#'}",
              'c': c}  # why
'''


def test_comments_docstrings_and_continued_lines():
    spelling = "def f ( a , b = 1 , * , c ) : NEWLINE INDENT x = a + b NEWLINE return { 'x' :".split()
    spelling += ["f\"{x}{'#'}\"", ",", "'c'", ":", "c", "}", "NEWLINE", "DEDENT"]
    spaces = layout(TRICKY, spelling)
    text = "".join(s + t for s, t in zip(spaces, spelling, strict=True) if t not in ("NEWLINE", "INDENT", "DEDENT"))
    assert text == (
        "def f(a,  b=1,\n      *, c):\n    x = a \\\n        + b\n    return {'x':  f\"{x}{'#'}\",\n            'c': c}"
    )


def test_a_source_that_has_changed_is_refused():
    with pytest.raises(ValueError, match="expected 'y' in the source, got 'x'"):
        layout("x", ["y"])


def test_functions_of_the_library_are_laid_out_whole(data):
    from sightline.comparison.exhibit import _source

    for place in data.test.texts[::150]:
        spelling = scope.spelling(place)
        text = "".join(
            space + token
            for space, token in zip(layout(_source(place), spelling), spelling, strict=True)
            if token not in ("NEWLINE", "INDENT", "DEDENT")
        )
        compile(text if not text.startswith("async") else text, "function", "exec")
