"""Every output of every head class, after `unpad`, is that of eager attention, loss and gradient too; or it is refused.

A few families in every kind of call here; all of them when long tests run, which also writes the second table of the
page.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
import transformers

import sightline.huggingface as hf
from sightline.attention import watching
from sightline.huggingface.row_layout import NAME, packing_in_use
from tests.huggingface.head_classes import HEADS, build, calls, class_of, differences
from tests.huggingface.test_coverage import KNOWN, OUTPUTS_PART, Wide, write_part

PACKED, PADDED, REFUSED, NONE = "●", "○", "×", "–"
SAMPLE = ["albert", "bert", "gpt2", "mixtral", "modernbert", "opt", "t5gemma"]
LEGEND = f"""\
{PACKED} the usual call (padded on the right, labels -100 on padding) runs packed; {PADDED} it runs padded, since
something that it gives back depends on rows of padding, or the head goes past the part that packs; {REFUSED}
`unpad` refuses the family, as above, and the values are those of attention "sightline" without it; {NONE}
transformers has no such class. In every cell that is no dash each output (logits, pooled output, hidden states,
loss, what routers say) is eager attention's to 1e-9 of the largest value in up to 15 calls: padded left, right,
with a hole, not at all; a text or all texts without a token; labels on padding; a tuple; one text; other tokens
on padding; masks of truth values, ones and none; and so are the gradients of the loss in training (in evaluation,
if training draws random numbers). A wrong value fails the test."""


@dataclass
class Cell:
    """One head class of one family."""

    state: str = NONE
    compared: int = 0
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(autouse=True)
def quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    transformers.logging.set_verbosity(before)


def examined(family: str, head: str) -> Cell | None:
    """The cell; None where the family computes its own attention."""
    if class_of(family, head) is None:
        return Cell()
    model = build(family, head)
    beside, cell = copy.deepcopy(model), Cell(PADDED)
    try:
        hf.unpad(beside)
    except ValueError:
        cell.state = REFUSED
        beside.set_attn_implementation(NAME)
    for number, (name, arguments, mask) in enumerate(calls(family, head)):
        packed: list[bool] = []
        try:
            with torch.no_grad():
                expected = model(**arguments)
        except (ValueError, AttributeError, RuntimeError, TypeError, AssertionError, IndexError):  # no call for it
            continue
        with torch.no_grad(), watching(lambda *_, p=packed: p.append(packing_in_use.get() is not None)):
            try:
                actual = beside(**arguments)
            except ValueError as refusal:  # attention that is none of ours, as the first table says
                assert cell.state == REFUSED and "sightline" in str(refusal), (name, refusal)
                return cell
        if not packed:
            return None
        cell.compared += 1
        cell.wrong += [f"{name}: {output}" for output in differences(actual, expected, mask)]
        if number == 0:
            cell.state = PACKED if any(packed) else cell.state
            if "loss" in expected and not _same_gradients(model, beside, arguments):
                cell.wrong.append("gradients")
    return cell


def _draws(model, arguments) -> bool:
    """Whether the model draws random numbers in training, as routers that explore do."""
    model.train()
    before = torch.get_rng_state()
    with torch.no_grad():
        model(**arguments)
    return not torch.equal(before, torch.get_rng_state())


def _same_gradients(model, beside, arguments) -> bool:
    grads, losses = [], []
    for part in (*model.modules(), *beside.modules()):
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # some heads drop out whatever the configuration says
    trains = not _draws(model, arguments)
    for one in (model, beside):
        one.train(trains)
        parameters = [parameter for parameter in one.parameters() if parameter.numel() and parameter.requires_grad]
        loss = one(**arguments).loss
        losses.append(bool(loss.isfinite()))
        grads.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        one.eval()
    if not losses[0]:  # as Splinter's, whose logits of padding are infinite in double precision
        return not losses[1]
    pairs = [pair for pair in zip(*grads, strict=True) if pair != (None, None)]
    if any(one is None for pair in pairs for one in pair):
        return False
    largest = max(float(expected.abs().max()) for expected, _ in pairs)
    return all(bool((actual - expected).abs().max() <= 1e-9 * largest) for expected, actual in pairs)


@pytest.mark.parametrize("family", SAMPLE)
def test_every_output_of_every_head_is_eagers(family):
    with Wide():
        cells = {head: examined(family, head) for head in HEADS}
    assert {head: cell.wrong for head, cell in cells.items() if cell.wrong} == {}
    assert sum(cell.state != NONE for cell in cells.values()) >= 3
    if family != "t5gemma":
        assert cells["model"].state == PACKED


table: dict[str, dict[str, Cell]] = {}  # of the families that have run


@pytest.mark.long
@pytest.mark.parametrize("family", KNOWN)
def test_every_family(family):
    with Wide():
        cells = {head: examined(family, head) for head in HEADS}
    table[family] = {head: cell for head, cell in cells.items() if cell is not None and cell.state != NONE}
    assert {head: cell.wrong for head, cell in table[family].items() if cell.wrong} == {}


@pytest.mark.long
def test_the_table_of_heads():
    if table.keys() != set(KNOWN):
        pytest.skip("the table is written when all families have run")
    rows = {family: row for family, row in table.items() if row}
    assert not any(cell.wrong for row in rows.values() for cell in row.values())
    states = Counter(cell.state for row in rows.values() for cell in row.values())
    compared = sum(cell.compared for row in rows.values() for cell in row.values())
    assert states[PACKED] >= 200 and compared >= 5000
    lines = [
        f"{len(rows)} families, {sum(states.values())} head classes: {states[PACKED]} packed, {states[PADDED]} padded, "
        f"{states[REFUSED]} refused; {compared} calls compared, none wrong.",
        "",
        LEGEND,
        "",
        "| family | " + " | ".join(HEADS) + " |",
        "|---|" + ":-:|" * len(HEADS),
        *(
            f"| {name} | " + " | ".join(row.get(head, Cell()).state for head in HEADS) + " |"
            for name, row in sorted(rows.items())
        ),
    ]
    write_part(OUTPUTS_PART, "\n".join(lines) + "\n")
