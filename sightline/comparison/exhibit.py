"""One held-out function as an example of a comparison: every head's weights in it, and its influence.

A rule that looks at no model chooses the function; other functions choose the head.
"""

from __future__ import annotations

import base64
import re
import sysconfig
import tokenize
from pathlib import Path

import torch
from torch import Tensor

from sightline.observe import influence_on, watch
from sightline.tasks import scope
from sightline.tasks.examples import Examples

LONGEST, USES, NAMES = 150, 12, 6  # tokens that fit on one screen; uses and names, at least
SAMPLE = 64  # functions that choose the head
PROBES = 2  # random probes of each encoding's influence
GLYPHS = {"NEWLINE": "↵", "INDENT": "→", "DEDENT": "←"}
STRING = re.compile(r"""[rbuRBU]*('{3}|"{3}|'|")(\\.|(?!\1).)*\1""", re.DOTALL)
BLANK = re.compile(r"(\s|\\\n|#[^\n]*)*")


def exhibit(model, valid: Examples, test: Examples) -> dict | None:
    """The example of a model with self-attention on `scope`, in the format of `sightline.lens.page`.

    Returns: None where no function of the test data fits the rule.
    """
    number = typical(test)
    if number is None:
        return None
    function = test.take([number])
    (weights,), scores = _run(model, function)
    layers, heads, _, _ = weights.shape
    sample = valid.take((valid.lengths <= LONGEST).nonzero().flatten()[:SAMPLE].tolist())
    in_sample = _mass_on_bindings(_run(model, sample)[0], sample)
    layer, head = divmod(int(in_sample.argmax()), heads)
    in_function = _mass_on_bindings([weights], function)
    tokens = _tokens(function, scores.softmax(-1))
    most_used = int(function.links[function.links >= 0].mode().values)  # such as `self`, always at the same place
    uses = [(i, t["binding"]) for i, t in enumerate(tokens) if t["binding"] not in (None, most_used)]
    place = function.texts[0]
    return {
        "about": [
            f"`{place.module}.{place.qualname}` from Python's own library, which no encoder was trained on, as the "
            "self-attention encoder reads it: it never sees the spelling of a name, only which names are the same.",
            f"Shown first is layer {layer}, head {head}: in {len(sample)} validation functions a use of a name gives "
            f"{in_sample[layer, head]:.0%} of this head's weight to the name's binding, more than in any other head. "
            f"In this function it is {in_function[layer, head]:.0%}.",
        ],
        "layers": layers,
        "heads": heads,
        "chosen": {"layer": layer, "head": head},
        "start": max(uses, key=lambda use: float(weights[layer, head, *use]) * (use[0] - use[1]))[0],
        "tokens": tokens,
        "weights": _packed(weights),
        "influence": _packed(_influence(model, function)),
        "probes": PROBES,
    }


def typical(test: Examples) -> int | None:
    """The function with the largest median distance from use to binding, of those short and rich enough to show."""
    best, chosen = 0.0, None
    for i in range(len(test)):
        if test.lengths[i] <= LONGEST:
            one = test.take([i])
            bound = one.links >= 0
            distance = float(one.distances[bound].float().median()) if bound.any() else 0.0
            if distance > best and bound.sum() >= USES and len(one.links[bound].unique()) >= NAMES:
                best, chosen = distance, i
    return chosen


def _run(model, examples: Examples) -> tuple[list[Tensor], Tensor]:
    """The weights [layers, H, n, n] of each sequence, and the scores [T, outputs]."""
    model.eval()
    with torch.inference_mode(), watch(model) as seen:
        scores = model(examples.inputs)
        layers = [seen.layer(layer) for layer in range(seen.layers)]
        weights = [torch.stack([layer.weights(i) for layer in layers]).float() for i in range(len(examples))]
    return weights, scores.float()


def _influence(model, function: Examples) -> Tensor:
    """The share of each input in what moves each encoding. Shapes: [n, n]."""
    values = function.inputs.values
    influence = influence_on(model, values, range(len(values)), probes=PROBES)
    return influence / influence.sum(-1, keepdim=True)


def _packed(shares: Tensor) -> str:
    return base64.b64encode((shares * 65535).round().numpy().astype("<u2").tobytes()).decode()


def _mass_on_bindings(weights: list[Tensor], examples: Examples) -> Tensor:
    """The weight that a use of a name gives to the binding, as the mean over all uses. Shapes: [layers, H]."""
    masses = []
    for one, links in zip(weights, examples.links.split(examples.lengths.tolist()), strict=True):
        uses = (links >= 0).nonzero().flatten()
        masses.append(one[:, :, uses, links[uses]])
    return torch.cat(masses, -1).mean(-1)


def _tokens(function: Examples, probabilities: Tensor) -> list[dict]:
    """What the page shows of each token: its text and space, and the encoder's answer where it is a use of a name."""
    (place,) = function.texts
    spelling = scope.spelling(place)
    tokens = []
    for i, (text, space) in enumerate(zip(spelling, layout(_source(place), spelling), strict=True)):
        role, link, answer = int(function.targets[i]), int(function.links[i]), int(probabilities[i].argmax())
        has_answer = role >= 0
        tokens.append(
            {
                "space": space,
                "text": GLYPHS.get(text, text),
                "layout": text in GLYPHS,
                "gold": scope.ROLES[role] if has_answer else None,
                "answer": scope.ROLES[answer] if has_answer else None,
                "probability": round(float(probabilities[i, answer]), 3) if has_answer else None,
                "binding": link if link >= 0 else None,
            }
        )
    return tokens


def _source(place: scope.Place) -> str:
    """The text of a library module, from the first line of a function on."""
    path = Path(sysconfig.get_paths()["stdlib"], *place.module.split("."))
    with tokenize.open(path / "__init__.py" if path.is_dir() else path.with_suffix(".py")) as file:
        return "".join(file.readlines()[place.line - 1 :])


def layout(source: str, spelling: list[str]) -> list[str]:
    r"""The blanks before each token as in the source, without comments, docstring and outer indentation.

    Layout tokens stand at the end of their line.

    >>> layout("  def f(x):\n    # why\n    return  x\n", ["def", "f", "(", "x", ")", ":", "NEWLINE", "return", "x"])
    ['', ' ', '', '', '', '', '', '\n  ', '  ']
    """
    outer = len(source) - len(source.lstrip(" \t"))
    spaces, at = [], 0
    for token in spelling:
        if token in GLYPHS:
            spaces.append("")
            continue
        end = _past_blanks(source, at)
        while not source.startswith(token, end):  # a docstring, or the semicolon after it, is no token
            skipped = STRING.match(source, end) or re.compile(";").match(source, end)
            if skipped is None:
                text = source[end:][:20]
                raise ValueError(f"exhibit: expected {token!r} in the source, got {text!r}; it has changed")
            end = _past_blanks(source, skipped.end())
        spaces.append(_without_comments(source[at:end], outer))
        at = end + len(token)
    return ["", *spaces[1:]]


def _past_blanks(source: str, at: int) -> int:
    match = BLANK.match(source, at)
    return match.end() if match else at


def _without_comments(blank: str, outer: int) -> str:
    """What stands between two tokens as blanks: at most one new line, and the indentation after it."""
    if "\n" not in blank:
        return blank if blank.isspace() else " " * bool(blank)
    last = blank[blank.rfind("\n") + 1 :]
    indentation = last[: len(last) - len(last.lstrip(" \t"))]
    continued = " \\" if "\\\n" in blank else ""
    return continued + "\n" + indentation[outer:]
