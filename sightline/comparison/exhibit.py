"""Numbers say that attention finds a name's binding; this shows it: one held-out function, every head's weights in it, and influence.

The function is chosen by a rule that looks at no model, and the head by other functions than the one that is shown.
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

LONGEST, USES, NAMES = 150, 12, 6  # what can be read on one screen and asks for more than one name
SAMPLE = 64  # functions by which the head is chosen
PROBES = 2  # random rows of signs by which each encoding is asked what moves it
GLYPHS = {"NEWLINE": "↵", "INDENT": "→", "DEDENT": "←"}
STRING = re.compile(r"""[rbuRBU]*('{3}|"{3}|'|")(\\.|(?!\1).)*\1""", re.DOTALL)
BLANK = re.compile(r"(\s|\\\n|#[^\n]*)*")


def exhibit(model, valid: Examples, test: Examples) -> dict | None:
    """What the page shows of a model with self-attention on `scope`; None if no function of the test data fits the rule.

    The format is that of `sightline.lens.page`.
    """
    number = typical(test)
    if number is None:
        return None
    one = test.take([number])
    weights, scores = _seen(model, one)
    weights = weights[0]
    layers, heads, n, _ = weights.shape
    sample = valid.take((valid.lengths <= LONGEST).nonzero().flatten()[:SAMPLE].tolist())
    elsewhere = _mass_on_bindings(_seen(model, sample)[0], sample)
    layer, head = divmod(int(elsewhere.argmax()), heads)
    here = _mass_on_bindings([weights], one)
    tokens = _tokens(one, scores.softmax(-1))
    often = int(one.links[one.links >= 0].mode().values)  # such as `self`, which has its place and is found by it
    uses = [(i, t["binding"]) for i, t in enumerate(tokens) if t["binding"] not in (None, often)]
    place = one.texts[0]
    return {
        "about": [
            f"`{place.module}.{place.qualname}` from Python's own library, which no encoder was trained on, as the self-attention "
            f"encoder reads it: it never sees the spelling of a name, only which names are the same.",
            f"Shown first is layer {layer}, head {head}: in {len(sample)} validation functions a use of a name gives "
            f"{elsewhere[layer, head]:.0%} of this head's weight to the name's binding, more than in any other head. "
            f"In this function it is {here[layer, head]:.0%}.",
        ],
        "layers": layers,
        "heads": heads,
        "chosen": {"layer": layer, "head": head},
        "start": max(uses, key=lambda use: float(weights[layer, head, *use]) * (use[0] - use[1]))[0],
        "tokens": tokens,
        "weights": _packed(weights),
        "influence": _packed(_influence(model, one)),
        "probes": PROBES,
    }


def typical(test: Examples) -> int | None:
    """The function whose uses lie farthest from their bindings, in the median, of those short and rich enough to show."""
    best, found = 0.0, None
    for i in range(len(test)):
        if test.lengths[i] <= LONGEST:
            one = test.take([i])
            bound = one.links >= 0
            distance = float(one.distances[bound].float().median()) if bound.any() else 0.0
            if distance > best and bound.sum() >= USES and len(one.links[bound].unique()) >= NAMES:
                best, found = distance, i
    return found


def _seen(model, examples: Examples) -> tuple[list[Tensor], Tensor]:
    """The weights [layers, H, n, n] of each sequence, and the scores [T, outputs]."""
    model.eval()
    with torch.inference_mode(), watch(model) as seen:
        scores = model(examples.inputs)
        weights = [
            torch.stack([seen.layer(layer).weights(i) for layer in range(seen.layers)]).float()
            for i in range(len(examples))
        ]
    return weights, scores.float()


def _influence(model, one: Examples) -> Tensor:
    """What moves each encoding of a sequence: the shares of its inputs. Shapes: [n, n]."""
    found = influence_on(model, one.inputs.values, range(len(one.inputs.values)), probes=PROBES)
    return found / found.sum(-1, keepdim=True)


def _packed(shares: Tensor) -> str:
    return base64.b64encode((shares * 65535).round().numpy().astype("<u2").tobytes()).decode()


def _mass_on_bindings(weights: list[Tensor], examples: Examples) -> Tensor:
    """For each head, the weight that a use of a name gives to the binding, on average over all uses. Shapes: [layers, H]."""
    masses = []
    for one, links in zip(weights, examples.links.split(examples.lengths.tolist()), strict=True):
        uses = (links >= 0).nonzero().flatten()
        masses.append(one[:, :, uses, links[uses]])
    return torch.cat(masses, -1).mean(-1)


def _tokens(one: Examples, probabilities: Tensor) -> list[dict]:
    spelling = scope.spelling(one.texts[0])
    spaces = layout(_source(one.texts[0]), spelling)
    tokens = []
    for i, (text, space) in enumerate(zip(spelling, spaces, strict=True)):
        role, link, answer = int(one.targets[i]), int(one.links[i]), int(probabilities[i].argmax())
        tokens.append(
            {
                "space": space,
                "text": GLYPHS.get(text, text),
                "layout": text in GLYPHS,
                "gold": scope.ROLES[role] if role >= 0 else None,
                "answer": scope.ROLES[answer] if role >= 0 else None,
                "probability": round(float(probabilities[i, answer]), 3) if role >= 0 else None,
                "binding": link if link >= 0 else None,
            }
        )
    return tokens


def _source(place: scope.Place) -> str:
    """The text of a module of the library, from the line of a function on."""
    path = Path(sysconfig.get_paths()["stdlib"], *place.module.split("."))
    with tokenize.open(path / "__init__.py" if path.is_dir() else path.with_suffix(".py")) as file:
        return "".join(file.readlines()[place.line - 1 :])


def layout(source: str, spelling: list[str]) -> list[str]:
    r"""The blanks before each token as they stand in the source, less its comments, docstring and outer indentation.

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
        blank = BLANK.match(source, at)
        while not source.startswith(
            token, blank.end()
        ):  # only a docstring, and what ends it, is left out of the tokens
            skipped = STRING.match(source, blank.end()) or re.compile(";").match(source, blank.end())
            if skipped is None:
                raise ValueError(
                    f"exhibit: expected {token!r} in the source, got {source[blank.end() :][:20]!r}; it has changed"
                )
            blank = BLANK.match(source, skipped.end())
        spaces.append(_tidied(source[at : blank.end()], outer))
        at = blank.end() + len(token)
    return ["", *spaces[1:]]


def _tidied(blank: str, outer: int) -> str:
    """What stood between two tokens, as blanks: one new line at most, and the indentation after it."""
    if "\n" not in blank:
        return blank if blank.isspace() else " " * bool(blank)
    last = blank[blank.rfind("\n") + 1 :]
    indentation = last[: len(last) - len(last.lstrip(" \t"))]
    continued = " \\" if "\\\n" in blank else ""
    return continued + "\n" + indentation[outer:]
