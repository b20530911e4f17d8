"""Every family that can be made small, in every use, beside eager attention; docs/coverage.md is the result.

A use is proved or refused with a sentence; a wrong number fails the test, and so does a `check` that says something
else. All is compared in float64, and models that round to float32 on their way are kept from it, so that a wrong key
cannot hide behind a rounding error.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode
from transformers import DataCollatorWithFlattening, PreTrainedModel

import sightline.huggingface as hf
from sightline.attention import watching
from tests.huggingface.families import FAMILIES, KNOWN, VOCABULARY, build

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
LENGTHS = (7, 1, 13, 17, 2)
NEW = 8  # tokens generated
CLOSE = 1e-9  # relative to the largest value
YES, NO, NONE, REFUSED = "yes", "no", "–", "refused"
OWN = "computes its own"
OUTPUTS_PART = "## All outputs of all head classes"  # written by test_head_coverage.py
INTRODUCTION = """\
Each is a tiny model with random weights, compared in float64 with eager attention to 1e-9 of the largest value:
every real token of a batch padded right and left, and of each sequence by itself; packed input as
`DataCollatorWithFlattening` makes it, with offsets and without, against each sequence alone; `run`; a padded call
after `unpad`; eight greedy tokens and their logits, padded left; the gradient of every parameter. "routed" says
what the attention was asked for in one forward; a dash, that there is no such use. For models of an encoder and a
decoder, packed and run are of the encoder."""
table: dict[str, dict[str, str]] = {}  # family -> use -> YES, NONE or the sentence of its refusal


class Wide(TorchFunctionMode):
    """Within it, float32 becomes float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return (Tensor.double if function is Tensor.float else function)(*args, **kwargs)


class Subject:
    """One family's model and a few sequences of unequal lengths."""

    def __init__(self, family: str):
        self.model = build(family)
        draw = torch.Generator().manual_seed(0)
        self.sequences = [torch.randint(4, VOCABULARY, (n,), generator=draw) for n in LENGTHS]
        targets = [torch.randint(4, VOCABULARY, (n,), generator=draw) for n in reversed(LENGTHS)]
        self.targets = targets if FAMILIES[family] == "pair" else []

    def under(self, implementation: str) -> PreTrainedModel:
        self.model.set_attn_implementation(implementation)
        return self.model

    def padded(self, side: str) -> tuple[dict[str, Tensor], Tensor]:
        """A padded batch, and which rows of its output are real."""
        ids, mask = _padded(self.sequences, side)
        if not self.targets:
            return {"input_ids": ids, "attention_mask": mask}, mask.bool()
        targets, real = _padded(self.targets, "right")
        arguments = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": targets}
        return {**arguments, "decoder_attention_mask": real}, real.bool()

    @cached_property
    def routes(self) -> bool:
        """Whether the source of any part of the model names transformers' interface."""
        homes = {type(part).__module__ for part in self.model.modules()}
        sources = (inspect.getsource(sys.modules[home]) for home in homes if home.startswith("transformers.models"))
        return any("ALL_ATTENTION_FUNCTIONS" in source for source in sources)

    @property
    def base(self) -> PreTrainedModel:
        """What turns tokens into hidden states: the encoder, where there is a decoder too."""
        if self.targets:
            return self.model.get_encoder()
        base = self.model.base_model
        return getattr(base, "model", base)

    @cached_property
    def alone(self) -> Tensor:
        """The rows that eager attention gives each sequence by itself."""
        self.under("eager")
        with torch.no_grad():
            return torch.cat([_rows(self.base(one[None]))[0] for one in self.sequences])

    @cached_property
    def expected(self) -> Tensor:
        """What eager attention gives the batch padded on the right."""
        arguments, real = self.padded("right")
        with torch.no_grad():
            return self.under("eager")(**arguments)[0][real]

    @property
    def first_position(self) -> int:
        """Models after RoBERTa count from behind the number of the padding token, as the collator's own text says."""
        source = inspect.getsource(sys.modules[type(self.model).__module__])
        return 1 + self.model.config.pad_token_id if "incremental_indices" in source else 0


def _padded(sequences: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    whole = (sequences, [torch.ones_like(one) for one in sequences])
    return tuple(pad_sequence(rows, batch_first=True, padding_side=side) for rows in whole)


def _rows(outputs) -> Tensor:
    return outputs.last_hidden_state if "last_hidden_state" in outputs else outputs[0]


def _same(actual: Tensor, expected: Tensor, scale: float | None = None) -> bool:
    assert expected.isfinite().all() and expected.numel()
    scale = float(expected.abs().max()) if scale is None else scale
    return actual.shape == expected.shape and bool((actual - expected).abs().max() <= CLOSE * scale)


# --- the uses: True is a proof, False is a fault, a ValueError is a refusal, None says that there is no such use ------


@torch.no_grad()
def padded(subject: Subject) -> bool:
    arguments, real = subject.padded("left")
    expected = subject.under("eager")(**arguments)[0][real]
    unmasked = subject.model(**{name: t for name, t in arguments.items() if "mask" not in name})[0][real]
    assert not subject.routes or (unmasked - expected).abs().max() > 1e-3 * expected.abs().max()
    left = _same(subject.under("sightline")(**arguments)[0][real], expected)
    expected, (arguments, real) = subject.expected, subject.padded("right")
    right = _same(subject.under("sightline")(**arguments)[0][real], expected)
    alone = subject.alone.split(LENGTHS)
    subject.under("sightline")
    pairs = zip(subject.sequences, alone, strict=True)
    return left and right and all(_same(_rows(subject.base(one[None]))[0], rows) for one, rows in pairs)


@torch.no_grad()
def packed(subject: Subject) -> bool | None:
    """In transformers' own form, with the offsets and without; each may be refused, and neither may be wrong."""
    expected, base, right, refusal = subject.alone, subject.base, None, None
    subject.under("sightline")
    extra = {"use_cache": False} if "use_cache" in inspect.signature(base.forward).parameters else {}
    for offsets in (False, True):
        collate = DataCollatorWithFlattening(
            return_flash_attn_kwargs=offsets, position_ids_start=subject.first_position
        )
        arguments = collate([{"input_ids": one} for one in subject.sequences])
        del arguments["labels"]
        calls = []
        try:
            with watching(lambda *_, calls=calls: calls.append(1)):
                actual = _rows(base(**arguments, **extra))[0]
        except ValueError as error:
            refusal = error
            continue
        if not calls:  # this part of the model is not routed: nothing of ours was asked
            return None
        if not _same(actual, expected):
            return False
        right = True
    if right is None:
        raise refusal
    return right


@torch.no_grad()
def run(subject: Subject) -> bool:
    expected = subject.alone
    actual = hf.run(subject.model, [*subject.sequences, []], tokens=16)
    return actual.lengths.tolist() == [*LENGTHS, 0] and _same(actual.values, expected)


@torch.no_grad()
def unpadded(subject: Subject) -> bool:
    arguments, real = subject.padded("right")
    expected = subject.expected
    return _same(hf.unpad(copy.deepcopy(subject.model))(**arguments)[0][real], expected)


@torch.no_grad()
def generate(subject: Subject) -> bool | None:
    if not subject.model.can_generate():
        return None
    arguments, _ = subject.padded("left")
    arguments = {name: arguments[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    expected, actual = (subject.under(name).generate(**arguments, **options) for name in ("eager", "sightline"))
    same = torch.equal(actual.sequences, expected.sequences)
    return same and _same(torch.stack(actual.logits), torch.stack(expected.logits))


def gradient(subject: Subject) -> bool:
    arguments, real = subject.padded("right")
    parameters = [p for p in subject.model.parameters() if p.requires_grad and p.numel()]
    grads = []
    for implementation in ("eager", "sightline"):
        outputs = subject.under(implementation)(**arguments)[0][real]
        loss = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum() / len(outputs)
        grads.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    pairs = [pair for pair in zip(*grads, strict=True) if pair != (None, None)]
    if any(one is None for pair in pairs for one in pair):
        return False
    largest = max(float(expected.abs().max()) for expected, _ in pairs)
    return all(_same(actual, expected, max(float(expected.abs().max()), 1e-3 * largest)) for expected, actual in pairs)


USES: dict[str, Callable[[Subject], bool | None]] = {
    "padded = eager": padded,
    "packed = alone": packed,
    "run = alone": run,
    "unpad = eager": unpadded,
    "generate = eager": generate,
    "gradient = eager": gradient,
}


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet():
    """What transformers warns of in tiny models says nothing about ours."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    transformers.logging.set_verbosity(before)


@pytest.mark.parametrize("family", KNOWN)
def test_every_use_is_right_or_refused(family):
    checked = {row.what: row for row in hf.check(build(family, torch.float32)).rows}
    subject = Subject(family)
    with Wide():
        cells = {use: outcome(examine, subject) for use, examine in USES.items()}
    assert "wrong" not in cells.values(), cells
    named = checked["routed"].sentence
    if subject.routes:
        for use in checked.keys() & cells.keys() - ({"packed = alone"} if subject.targets else set()):
            expected = {YES: "exact", NONE: "not applicable"}.get(cells[use], REFUSED)
            assert checked[use].outcome == expected, (checked[use], cells[use])
    else:  # nothing pretends to make it faster, and what it is given under our name it computes as ever
        assert OWN in named and type(subject.model).__name__ in named
        refused = {cells.pop("run = alone"), cells.pop("unpad = eager")}
        assert all(OWN in sentence for sentence in refused) and set(cells.values()) <= {YES, NONE}, cells
        cells = dict.fromkeys(USES, NONE) | {"run = alone": named, "unpad = eager": named}
    routed = NO if not subject.routes else named if checked["routed"].outcome == "exact" else REFUSED
    names = "|".join(sorted({type(part).__name__ for part in (subject.model, subject.base)}))
    table[family] = {"routed": routed} | {use: re.sub(names, "MODEL", cell) for use, cell in cells.items()}


def outcome(examine: Callable[[Subject], bool | None], subject: Subject) -> str:
    try:
        right = examine(subject)
    except ValueError as refusal:
        return " ".join(str(refusal).split())
    return NONE if right is None else YES if right else "wrong"


@pytest.mark.parametrize("family", ["bert", "llama", "gpt_oss", "t5", "modernbert", "mixtral"])
def test_no_weight_is_zero(family):
    assert all(bool((parameter != 0).all()) for parameter in build(family).parameters())


def test_the_page():
    if table.keys() != FAMILIES.keys():
        pytest.skip(f"{len(table)} of {len(FAMILIES)} families have run here: the page is written when all have")
    routed = [family for family, cells in table.items() if cells["routed"] != NO]
    proved = [family for family in routed if table[family]["padded = eager"] == YES]
    assert len(proved) >= 60 and len(table) - len(routed) >= 12
    write_part("", page(len(routed), len(proved)))


def write_part(name: str, text: str) -> None:
    """Replaces one part of the page, which begins at its heading; "" is the first part, down to OUTPUTS_PART."""
    first, _, second = PAGE.read_text("utf-8").partition(OUTPUTS_PART)
    first, second = (first, "\n\n" + text) if name else (text + "\n", second)
    PAGE.write_text(first + (OUTPUTS_PART + second if second else ""), "utf-8")


def page(routed: int, proved: int) -> str:
    """The table, and below it why what is refused is refused."""
    torch_version, version = (m.__version__.partition("+")[0] for m in (torch, transformers))
    lines = [
        "# Families of Hugging Face models",
        "",
        f"Written by `pytest tests/huggingface/test_coverage.py`, with transformers {version} and torch "
        f"{torch_version}.",
        "",
        f"{len(table)} families: {routed} route their attention through transformers' interface, and of these "
        f"{proved} give eager",
        f"attention's values on padded input and {routed - proved} are refused; {len(table) - routed} compute their "
        "own attention, and are named and refused.",
        "",
        INTRODUCTION,
        "",
        "| family | " + " | ".join(["routed", *USES]) + " |",
        "|---|" + "---|" * (1 + len(USES)),
    ]
    reasons = defaultdict(dict)
    for family, (routes, *cells) in sorted((family, tuple(cells.values())) for family, cells in table.items()):
        shown = [cell if cell in (YES, NONE) else REFUSED for cell in cells]
        lines.append(f"| {family} | " + " | ".join([routes, *shown]) + " |")
        for cell in cells:
            if cell not in (YES, NONE):
                reasons[cell][family] = None
    lines += ["", "## What is refused, in the words of the refusal, and for whom", ""]
    lines += [f"- {sentence}\n  **{', '.join(reasons[sentence])}**" for sentence in sorted(reasons)]
    return "\n".join(lines) + "\n"
