"""Claim 3: a convolution is a detector of n-grams. That is exact for one layer, and its filters can be read.

Two tests. Each row is encoded from its own window of n words, alone: a detector of n-grams answers as before. And the
blocks of a text are shuffled, which loses only what lies across them: the accuracy by block size says how much of the
order of words an encoder uses, and over how many.
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
from studies.claims.cell import Cell, Results
from studies.claims.claim import Claim, Judgement, Spread, Stage, medians, not_run, spread, table, verdict_by_rules
from studies.claims.outcome_tables import spread_picture
from studies.claims.receptive_field import reach
from studies.claims.study import Outcome, Study, available_study, load_data, outcomes_of

N = 5  # words that a filter sees
BLOCKS = (1, 2, 3, 5, 10, 20)
TOP = 20  # windows by which a filter is judged
SAME, CLEARER = 0.999, 0.2
SHOWN = 6  # filters in the table
TOKENS = 4096
# ---- measurements ----------------------------------------------------------------------------------------------------


def window_measures(model: Model, data: Data, seed: int) -> dict:
    """How an encoder of one layer answers from windows alone and with shuffled blocks.

    Returns: `blocks`: [[size, accuracy]]; with each row encoded from its own window of N words, `alone`: the accuracy,
    and `same`: the share of equal answers; of a convolution `filters`, see `filter_ngrams`.
    """
    tested = data.test or data.valid
    whole, windows = _scores(model, tested), _scores_from_windows(model, tested)
    random = torch.Generator().manual_seed(seed)
    measures = {
        "blocks": [[size, model.evaluate(shuffled(tested, size, random))["accuracy"]] for size in BLOCKS],
        "alone": float((windows.argmax(1) == tested.targets).float().mean()),
        "same": float((windows.argmax(1) == whole.argmax(1)).float().mean()),
    }
    if isinstance(model.encoder.blocks[0].mixer, Convolution):
        measures["filters"] = filter_ngrams(model, data.valid, random)
    return measures


def shuffled(examples: Examples, size: int, random: torch.Generator) -> Examples:
    """The same sequences, each cut into blocks of `size` tokens, with the blocks in random order.

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
    """Scores [S, outputs] where each row is encoded from its window alone, and then pooled with the others as usual."""
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
def filter_ngrams(model: Model, examples: Examples, random: torch.Generator) -> dict:
    """The n-grams that move each filter most, and how much they have in common.

    A filter is an output of the convolution. Its clearness is the largest share of its TOP strongest n-grams that have
    the same word at the same place.
    Returns: `clearness` of each filter; `by lot`: that of as many random n-grams, the median of 100 draws; `clearest`:
    of some filters [number, clearness, the five strongest n-grams].
    """
    model.eval()
    inputs = examples.inputs
    words, outputs = _full_windows(model, inputs)
    grams, first = words.unique(dim=0, return_inverse=True)
    strength = torch.full((len(grams), outputs.shape[1]), -torch.inf).scatter_reduce(
        0, first[:, None].expand(-1, outputs.shape[1]), outputs, "amax"
    )
    strongest = strength.topk(min(TOP, len(grams)), dim=0).indices.t()  # [E, TOP]
    clearness = [_clearness(grams[rows]) for rows in strongest]
    lots = [_clearness(grams[torch.randint(len(grams), (strongest.shape[1],), generator=random)]) for _ in range(100)]
    token = model.tokenizer.engine.id_to_token
    clearest = []
    for e in sorted(range(len(clearness)), key=lambda e: -clearness[e])[:SHOWN]:
        phrases = [" ".join(map(token, grams[g].tolist())) for g in strongest[e, :5].tolist()]
        clearest.append([e, clearness[e], phrases])
    return {"clearness": clearness, "by lot": sorted(lots)[50], "clearest": clearest}


def _full_windows(model: Model, inputs: Sequences) -> tuple[Tensor, Tensor]:
    """Of each row whose window lies within its sequence the words [W, N] and the outputs of the convolution [W, E]."""
    block = model.encoder.blocks[0]
    normed = inputs.with_values(block.norm_mixer(model.encoder.embedding(inputs.values.to(model.device))))
    outputs = block.mixer(normed).values.cpu()  # [T, E]
    last = inputs.lengths[inputs.sequence_ids] - N // 2
    inner = ((inputs.positions >= N // 2) & (inputs.positions < last)).nonzero().flatten()
    return inputs.values[inner[:, None] + torch.arange(-(N // 2), N // 2 + 1)], outputs[inner]


def _clearness(grams: Tensor) -> float:
    """The frequency of the most frequent word at one place, as a share of the n-grams [G, N]."""
    return max(Counter(column).most_common(1)[0][1] for column in grams.t().tolist()) / len(grams)


def _untrained(study: Study, data_folder: Path | None, folder: Path, results: Results) -> dict:
    """Returns: `clearness`: that of the median filter of each of DRAWN untrained convolutions."""
    data = load_data(study.data, study.data_settings(), data_folder)
    config = study.config("convolution", data, study.settings | {"seconds": study.seconds})
    clearness = []
    for seed in range(DRAWN):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = Model(config, data.task, data.tokenizer)
        random = torch.Generator().manual_seed(seed)
        clearness.append(median(filter_ngrams(model, data.valid, random)["clearness"]))
    return {"clearness": clearness}


# ---- studies and cells -----------------------------------------------------------------------------------------------


SETTINGS = {"layers": 1, "pool": "max", "dropout": 0.3, "tokens": 512}
STUDIES = (
    Study("trec", "trec", settings=SETTINGS, seconds=12, further=window_measures),
    Study("docstrings", "docstrings", settings=SETTINGS, seconds=12, quick_seconds=6, further=window_measures),
)
UNTRAINED, DRAWN = "untrained", 3


def cells(stage: Stage) -> list[Cell]:
    if stage.name == "gpu":
        return []
    study = available_study(*STUDIES, stage)
    settings, missing = {"data": study.data, **study.settings}, texts.missing(study.data, stage.data)
    control = Cell(f"{UNTRAINED}/{study.name}", settings, partial(_untrained, study, stage.data), 0, 5, missing)
    return [control, *study.cells(stage)]


# ---- the verdict -----------------------------------------------------------------------------------------------------


def judge(results: Results) -> Judgement:
    outcomes = [outcome for outcome in outcomes_of(STUDIES, results) if "convolution" in outcome.names]
    if not outcomes:
        return not_run()
    same = min(run["further"]["same"] for o in outcomes for run in o.runs["convolution"])
    exact = reach("convolution", 1, kernel=N) == [(N // 2, N // 2)]
    clear, random, before = _least_clear(outcomes, results)
    verdict = verdict_by_rules(
        (not exact or same < SAME, "does not hold"),
        (round(clear - before, 9) >= CLEARER, "holds"),
        (True, "holds when"),
    )
    sentences = [_first_sentence(verdict, same), _clearness_sentence(clear, before, random)]
    for o in outcomes:
        alone = medians({name: o.further(name, "same") for name in o.names})
        sentences.append(f"{o.study.name}, answers that stay the same with {N}-grams alone: {alone}.")
        sentences.append(_order_sentence(o))
    sentences.append(_deeper_sentence())
    tables = [one for o in outcomes for one in (_accuracy_table(o), _filter_table(o))]
    return Judgement(verdict, sentences, tables, [_picture(o) for o in outcomes])


def _least_clear(outcomes: list[Outcome], results: Results) -> tuple[float, float, float]:
    """Clearness of the median filter of a run, of random n-grams, and before training; of the run with the least gain.

    Where untrained filters were not measured, they count as perfectly clear.
    """
    clearness = []
    for o in outcomes:
        before = median(results.get(f"{UNTRAINED}/{o.study.name}", {"clearness": [1.0]})["clearness"])
        for run in o.runs["convolution"]:
            filters = run["further"]["filters"]
            clearness.append((median(filters["clearness"]), filters["by lot"], before))
    return min(clearness, key=lambda one: one[0] - one[2])


def _first_sentence(verdict: str, same: float) -> str:
    answers = (
        f"A one-layer convolution of kernel width {N} answers {same:.1%} of the texts alike when each {N}-gram is "
        "read alone"
    )
    return {
        "holds": f"{answers}, and it has learned filters that fire on n-grams with a word in common.",
        "holds when": (
            f"{answers}: what it knows is which {N}-grams occur. That a filter fires on n-grams with a word in "
            "common is hardly learned: untrained filters do so too."
        ),
        "does not hold": (
            f"{answers}: it uses more than the n-grams it is made of, or its field (the receptive field) is not "
            f"{N} words."
        ),
    }[verdict]


def _clearness_sentence(clear: float, before: float, random: float) -> str:
    return (
        f"In the median filter {clear:.1%} of the {TOP} strongest {N}-grams share one token at one place; before "
        f"any training {before:.1%}, of as many drawn at random {random:.1%} (the least difference over runs; "
        f"{100 * CLEARER:.0f} points are required, and <unk> counts as a token)."
    )


def _order_sentence(o: Outcome) -> str:
    """What shuffling costs each encoder."""
    costs = []
    for name in o.names:
        by_size = dict(zip(BLOCKS, _curve(o, name), strict=False))
        single, ten = (100 * (by_size[size]["median"] - o.at_end(name)["median"]) for size in (1, 10))
        costs.append(f"{name} {single:+.1f} and {ten:+.1f}")
    return (
        f"{o.study.name}, change of accuracy in points when single words are shuffled, and when blocks of 10 "
        f"words are: {', '.join(costs)}."
    )


def _deeper_sentence() -> str:
    plain, dilated = (1 + 2 * reach("convolution", 3, kernel=N, dilation=d)[-1][0] for d in ("plain", "dilated"))
    return (
        f"Only one layer detects {N}-grams: with 3 layers the field is {plain} words, dilated {dilated}. And "
        "all encoders see words in their order, so that each can detect n-grams too."
    )


# ---- tables and pictures ---------------------------------------------------------------------------------------------


def _curve(o: Outcome, name: str) -> list[Spread]:
    """Accuracy of an encoder with blocks of each size shuffled, and in order."""
    blocks = [spread(run["further"]["blocks"][i][1] for run in o.runs[name]) for i in range(len(BLOCKS))]
    return [*blocks, o.at_end(name)]


def _accuracy_table(o: Outcome) -> dict:
    rows = [[name, *_curve(o, name), o.further(name, "alone"), o.further(name, "same")] for name in o.names]
    columns = ["encoder", *(f"blocks of {size}" for size in BLOCKS), "in order", f"{N}-grams alone", "same answers"]
    title = f"{o.study.name}: accuracy with blocks of words shuffled, and with each word's window read alone"
    return table(title, columns, rows, "%")


def _filter_table(o: Outcome) -> dict:
    filters = o.runs["convolution"][0]["further"]["filters"]
    middle = median(filters["clearness"])
    rows = [[str(e), f"{clearness:.0%}", " / ".join(grams)] for e, clearness, grams in filters["clearest"]]
    title = (
        f"{o.study.name}, one run: the clearest filters and the {N}-grams that fire them (clearness: the share of "
        f"the {TOP} strongest with one word at one place; median over filters {middle:.1%}, of windows drawn at "
        f"random {filters['by lot']:.1%})"
    )
    return table(title, ["filter", "clearness", "strongest first"], rows)


def _picture(o: Outcome) -> dict:
    picture = spread_picture(
        o,
        f"{o.study.name}: accuracy when blocks of words are shuffled",
        "Blocks of one word: a bag of words. The order inside a block stays.",
        "words in a block",
        [*map(str, BLOCKS), "in order"],
        {name: _curve(o, name) for name in o.names},
    )
    return picture | {"marks": [{"name": f"n = {N}", "x": BLOCKS.index(N)}]}


NGRAMS = Claim(
    3,
    "A detector of n-grams",
    "A convolution is a local detector of n-grams.",
    (
        f"The field (receptive field) of one layer; a classifier of texts with one layer of kernel width {N}, "
        f"whose answers are compared with those from {N}-grams read alone, one by one; the n-grams that fire each "
        "filter, of trained and of untrained convolutions; and accuracy with blocks of words shuffled, for all "
        "encoders."
    ),
    (
        f"Does not hold if, in any run, less than {SAME:.1%} of the answers stay the same when each {N}-gram is "
        f"read alone. Otherwise holds if the filters are clear in every run: the {TOP} strongest n-grams of the "
        f"median filter share a token at one place {100 * CLEARER:.0f} points more often than those of untrained "
        'convolutions; <unk> counts as a token. The verdict is "holds when" if they are not.'
    ),
    (
        "Kim 2014, Convolutional neural networks for sentence classification",
        "Jacovi et al. 2018, Understanding convolutional neural networks for text classification",
    ),
    cells,
    judge,
    needs=" --data FOLDER",
)
