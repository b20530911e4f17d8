"""Claim 3: a convolution is a detector of n-grams. That is exact for one layer, and what its filters look for can be read.

If each row is encoded from its own window of n words, cut out and alone, a detector of n-grams answers as before. And if
the blocks of a text are shuffled, only what lies across them is lost: the accuracy by the size of the blocks says how
much of the order of words an encoder uses, and over how many.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from sightline.batching import sorted_batches
from sightline.encoders.convolution import Convolution
from sightline.sequences import Sequences
from sightline.tasks import Data, Examples
from sightline.training.model import Model
from studies.claims import texts
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, lines, not_run, spread, table
from studies.claims.receptive_field import reach
from studies.claims.study import Outcome, Study, either, loaded

N = 5  # words that a filter sees
BLOCKS = (1, 2, 3, 5, 10, 20)
TOP = 20  # windows by which a filter is judged
SAME, CLEARER = 0.999, 0.2
SHOWN = 6  # filters in the table
TOKENS = 4096


def measured(model: Model, data: Data, seed: int) -> dict:
    """What an encoder of one layer makes of windows and of shuffled blocks.

    Returns: `blocks`: [[size, accuracy]]; `alone`: the accuracy, and `same`: the share of equal answers, when each row is encoded from its
    own window of N words; of a convolution `filters`, see `fired`.
    """
    tested = data.test or data.valid
    whole, windows = _scores(model, tested), _scores_from_windows(model, tested)
    random = torch.Generator().manual_seed(seed)
    found = {
        "blocks": [[size, model.evaluate(shuffled(tested, size, random))["accuracy"]] for size in BLOCKS],
        "alone": float((windows.argmax(1) == tested.targets).float().mean()),
        "same": float((windows.argmax(1) == whole.argmax(1)).float().mean()),
    }
    if isinstance(model.encoder.blocks[0].mixer, Convolution):
        found["filters"] = fired(model, data.valid, random)
    return found


def shuffled(examples: Examples, size: int, random: torch.Generator) -> Examples:
    """The same sequences, each cut into blocks of so many tokens, the blocks in an order drawn at random.

    >>> ids = Sequences(torch.arange(6), [0, 6])
    >>> shuffled(Examples(ids, torch.tensor([0])), 3, torch.Generator().manual_seed(1)).inputs.values.tolist()
    [3, 4, 5, 0, 1, 2]
    """
    order = []
    for first, length in zip(examples.inputs.offsets.tolist(), examples.lengths.tolist(), strict=False):
        blocks = (torch.arange(length) + first).split(size) if length else ()
        order += [blocks[i] for i in torch.randperm(len(blocks), generator=random).tolist()]
    rows = torch.cat(order) if order else torch.zeros(0, dtype=torch.int64)
    return Examples(examples.inputs.with_values(examples.inputs.values[rows]), examples.targets)


@torch.no_grad()
def _scores(model: Model, examples: Examples) -> Tensor:
    model.eval()
    scores = torch.zeros(len(examples), model.task.outputs)
    for batch in sorted_batches(examples.lengths, TOKENS):
        scores[batch] = model(examples.take(batch).inputs.to(model.device)).float().cpu()
    return scores


@torch.no_grad()
def _scores_from_windows(model: Model, examples: Examples) -> Tensor:
    """Scores [S, outputs] where each row was encoded from its window alone, and then pooled with the others as ever."""
    scores = torch.zeros(len(examples), model.task.outputs)
    for batch in sorted_batches(examples.lengths, TOKENS // N):
        inputs = examples.take(batch).inputs
        place, last = inputs.positions, inputs.lengths[inputs.sequence_ids] - 1
        left, right = place.clamp(max=N // 2), (last - place).clamp(max=N // 2)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), (left + right + 1).cumsum(0)])
        number = torch.arange(int(offsets[-1])) - offsets[:-1].repeat_interleave(left + right + 1)
        rows = number + (torch.arange(len(place)) - left).repeat_interleave(left + right + 1)
        windows = Sequences(inputs.values[rows], offsets).to(model.device)
        middle = model.encoder(windows).values[(offsets[:-1] + left).to(model.device)]
        pooled = inputs.to(model.device).with_values(middle)
        scores[batch] = model.readout(pooled).float().cpu()
    return scores


@torch.no_grad()
def fired(model: Model, examples: Examples, random: torch.Generator) -> dict:
    """Which n-grams move each filter most, and how much they have in common.

    A filter is an output of the convolution. Its `clearness` is the share of its TOP strongest windows that have one and the same word at one and the
    same place, the best such; `by lot` that of as many windows drawn at random, the median of 100 draws.
    Returns: `clearness`: for each filter; `by lot`; `clearest`: of some filters the number, the clearness and the five strongest n-grams.
    """
    model.eval()
    inputs = examples.inputs
    block = model.encoder.blocks[0]
    seen = inputs.with_values(block.norm_mixer(model.encoder.embedding(inputs.values.to(model.device))))
    outputs = block.mixer(seen).values.cpu()  # [T, E]
    inner = (
        ((inputs.positions >= N // 2) & (inputs.positions < inputs.lengths[inputs.sequence_ids] - N // 2))
        .nonzero()
        .flatten()
    )
    words = inputs.values[inner[:, None] + torch.arange(-(N // 2), N // 2 + 1)]  # [W, N]
    grams, first = words.unique(dim=0, return_inverse=True)
    strength = torch.full((len(grams), outputs.shape[1]), -torch.inf).scatter_reduce(
        0, first[:, None].expand(-1, outputs.shape[1]), outputs[inner], "amax"
    )
    strongest = strength.topk(min(TOP, len(grams)), dim=0).indices.t()  # [E, TOP]
    clearness = [_clearness(grams[one]) for one in strongest]
    lots = [_clearness(grams[torch.randint(len(grams), (strongest.shape[1],), generator=random)]) for _ in range(100)]
    token = model.tokenizer.engine.id_to_token
    clearest = sorted(range(len(clearness)), key=lambda e: -clearness[e])[:SHOWN]
    return {
        "clearness": clearness,
        "by lot": sorted(lots)[50],
        "clearest": [
            [e, clearness[e], [" ".join(map(token, grams[g].tolist())) for g in strongest[e, :5].tolist()]]
            for e in clearest
        ],
    }


def _clearness(grams: Tensor) -> float:
    """The most frequent word at one place, as a share of the n-grams [G, N]."""
    return max(Counter(column).most_common(1)[0][1] for column in grams.t().tolist()) / len(grams)


SETTINGS = {"layers": 1, "pool": "max", "dropout": 0.3, "tokens": 512}
STUDIES = (
    Study("trec", "trec", settings=SETTINGS, seconds=12, further=measured),
    Study("docstrings", "docstrings", settings=SETTINGS, seconds=12, quick_seconds=6, further=measured),
)


UNTRAINED, DRAWN = "untrained", 3


def cells(stage: Stage) -> list[Cell]:
    if stage.name == "gpu":
        return []
    study = either(*STUDIES, stage)
    asked, lacks = {"data": study.data, **study.settings}, texts.lacks(study.data, stage.data)
    control = Cell(f"{UNTRAINED}/{study.name}", asked, partial(untrained, study, stage.data), 0, 5, lacks)
    return [control, *study.cells(stage)]


def untrained(study: Study, folder: Path | None, place: Path, found: Found) -> dict:
    """Returns: `clearness`: of the median filter of each of some convolutions as they are built, by `fired`."""
    data = loaded(study.data, study.settings_of_data(), folder)
    config = study.config("convolution", data, study.settings | {"seconds": study.seconds})
    clearness = []
    for seed in range(DRAWN):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = Model(config, data.task, data.tokenizer)
        random = torch.Generator().manual_seed(seed)
        clearness.append(median(fired(model, data.valid, random)["clearness"]))
    return {"clearness": clearness}


def judge(found: Found) -> Judged:
    outcomes = [o for study in STUDIES if (o := study.outcome(found)) and "convolution" in o.names]
    if not outcomes:
        return not_run("Nothing was run yet.")
    exact = reach("convolution", 1, kernel=N) == [(N // 2, N // 2)]
    runs = [run["further"] for o in outcomes for run in o.runs["convolution"]]
    same = min(run["same"] for run in runs)
    filters = [
        (median(run["further"]["filters"]["clearness"]), run["further"]["filters"]["by lot"], _before(o, found))
        for o in outcomes
        for run in o.runs["convolution"]
    ]
    clear, random, before = min(filters, key=lambda one: one[0] - one[2])
    detects, specific = exact and same >= SAME, round(clear - before, 9) >= CLEARER
    verdict = "does not hold" if not detects else "holds" if specific else "holds when"
    answers = f"A one-layer convolution of kernel width {N} answers {same:.1%} of the texts alike when each {N}-gram is read alone"
    first = {
        "holds": f"{answers}, and it has learned filters that fire on n-grams with a word in common.",
        "holds when": f"{answers}: what it knows is which {N}-grams occur. That a filter fires on n-grams with a word in common is hardly learned: untrained filters do.",
        "does not hold": f"{answers}: it uses more than the n-grams it is made of, or its field (the receptive field) is not {N} words.",
    }[verdict]
    shared = f"In the median filter {clear:.1%} of the {TOP} strongest {N}-grams share one token at one place; before any training {before:.1%}, of as many drawn at random {random:.1%}"
    said = [
        first,
        f"{shared} (the least difference over runs; {100 * CLEARER:.0f} points are asked for, and <unk> counts as a token).",
    ]
    for o in outcomes:
        alone = {name: spread(run["further"]["same"] for run in o.runs[name])["median"] for name in o.names}
        said.append(
            f"{o.study.name}, answers that stay the same with {N}-grams alone: {', '.join(f'{n} {v:.1%}' for n, v in alone.items())}."
        )
        said.append(_order(o))
    said.append(
        f"It is one layer that detects {N}-grams. With {3} layers the field is {1 + 2 * reach('convolution', 3, kernel=N)[-1][0]} words, dilated "
        f"{1 + 2 * reach('convolution', 3, kernel=N, dilation='dilated')[-1][0]}; and all encoders see words in their order, so that each can be one too."
    )
    return Judged(
        verdict, said, [t for o in outcomes for t in (_table(o), _filters(o))], [_picture(o) for o in outcomes]
    )


def _before(o: Outcome, found: Found) -> float:
    """How clear filters are that have learned nothing; as clear as can be, where that was not measured."""
    return median(found.get(f"{UNTRAINED}/{o.study.name}", {"clearness": [1.0]})["clearness"])


def _order(o: Outcome) -> str:
    """What shuffling costs each encoder."""
    costs = []
    for name in o.names:
        whole = o.at_end(name)["median"]
        blocks = {
            size: spread(dict(map(tuple, run["further"]["blocks"]))[size] for run in o.runs[name])["median"]
            for size in (1, 10)
        }
        costs.append(f"{name} {100 * (blocks[1] - whole):+.1f} and {100 * (blocks[10] - whole):+.1f}")
    return f"{o.study.name}, points of accuracy when single words are shuffled, and when blocks of 10 words are: {', '.join(costs)}."


def _curve(o: Outcome, name: str) -> list[dict]:
    blocks = [spread(run["further"]["blocks"][i][1] for run in o.runs[name]) for i in range(len(BLOCKS))]
    return [*blocks, o.at_end(name)]


def _table(o: Outcome) -> dict:
    rows = [
        [
            name,
            *_curve(o, name),
            spread(run["further"]["alone"] for run in o.runs[name]),
            spread(run["further"]["same"] for run in o.runs[name]),
        ]
        for name in o.names
    ]
    columns = ["encoder", *(f"blocks of {size}" for size in BLOCKS), "in order", f"{N}-grams alone", "same answers"]
    return table(
        f"{o.study.name}: accuracy with blocks of words shuffled, and with each word's window read alone",
        columns,
        rows,
        "%",
    )


def _filters(o: Outcome) -> dict:
    filters = o.runs["convolution"][0]["further"]["filters"]
    middle = median(filters["clearness"])
    rows = [[str(e), f"{clearness:.0%}", " / ".join(grams)] for e, clearness, grams in filters["clearest"]]
    title = (
        f"{o.study.name}, one run: the clearest filters and the {N}-grams that fire them (clearness: the share of the {TOP} strongest with one word at one place; "
        f"median over filters {middle:.1%}, of windows drawn at random {filters['by lot']:.1%})"
    )
    return table(title, ["filter", "clearness", "strongest first"], rows)


def _picture(o: Outcome) -> dict:
    series = {name: [[i, s["median"], s["low"], s["high"]] for i, s in enumerate(_curve(o, name))] for name in o.names}
    return lines(
        f"{o.study.name}: accuracy when blocks of words are shuffled",
        "Blocks of one word: a bag of words. The order inside a block stays.",
        {"name": "words in a block", "scale": "linear", "ticks": [*map(str, BLOCKS), "in order"]},
        {"name": "accuracy", "scale": "linear", "percent": True},
        series,
        levels=[{"name": "best constant answer", "y": o.constant}],
        marks=[{"name": f"n = {N}", "x": BLOCKS.index(N)}],
    )


NGRAMS = Claim(
    3,
    "A detector of n-grams",
    "A convolution is a local detector of n-grams.",
    f"The field (receptive field) of one layer; a classifier of texts with one layer of kernel width {N}, whose answers are compared with those from {N}-grams read alone, one by one; "
    "the n-grams that fire each filter, of trained convolutions and of such that were not; and accuracy with blocks of words shuffled, for all encoders.",
    f"Does not hold if less than {SAME:.1%} of the answers stay the same when each {N}-gram is read alone, in any run. Holds if besides the filters are clear, in every run: the {TOP} strongest n-grams of the "
    f"median filter share a token at a place {100 * CLEARER:.0f} points more often than those of convolutions that were not trained; <unk> counts as a token. Holds when, if they are not.",
    (
        "Kim 2014, Convolutional neural networks for sentence classification",
        "Jacovi et al. 2018, Understanding convolutional neural networks for text classification",
    ),
    cells,
    judge,
    needs=" --data FOLDER",
)
