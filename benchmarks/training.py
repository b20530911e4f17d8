"""Says how much faster packed training is: tokens/s of the same model fed packs and fed padded batches, taking turns.

    python benchmarks/training.py

The task is tagging: EWT's parts of speech, and scope. A step is forward, backward and AdamW, and making the batch.
Packed are batches of at most 4,096 tokens from BatchPlan; padded are random batches of 32 sequences, filled up to the
longest. Only tokens of sequences count, padding does not. The padded twin has the weights of the packed model and gives
the same scores; beside it stand torch.nn.TransformerEncoder (no positions, else alike) and, for the LSTM,
PackedSequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import count
from statistics import median

import torch
from side_by_side import against, agree, arguments, ewt, show, summary, take_turns, write
from torch import Tensor, nn
from torch.nn.functional import conv1d, scaled_dot_product_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sightline.batching import BatchPlan
from sightline.encoders import Convolution, Encoder, Readout, Recurrent, SelfAttention, build
from sightline.tasks import Data, Examples, load

WIDTH, LAYERS, HEADS, TOKENS, ROWS = 128, 3, 4, 4096, 32
TARGETS = {"self-attention": 3.0, "lstm": 2.5, "convolution": 2.0}
LIMIT = 1e-5  # largest difference between packed and padded scores


# --- the twins: mixers on rectangles x [B, L, E], of which the first lengths[b] rows are real -----------------------


def attend(mixer: SelfAttention, x: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
    rows = mixer.project_in(x).view(-1, 3 * mixer.heads, mixer.head_width)
    rows = mixer._rotated(rows, torch.arange(x.shape[1]).repeat(len(x)))
    q, k, v = rows.view(*x.shape[:2], 3, mixer.heads, mixer.head_width).permute(2, 0, 3, 1, 4)
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
    return mixer.project_out(mixed.transpose(1, 2).flatten(2))


def convolve(mixer: Convolution, x: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
    inside = (x * real[..., None]).transpose(1, 2)
    return conv1d(inside, mixer.weight.permute(2, 1, 0), mixer.bias, padding="same").transpose(1, 2)


def recur(mixer: Recurrent, x: Tensor, lengths: Tensor, real: Tensor, read: Callable | None = None) -> Tensor:
    """Both directions read real rows first and padding after: the second reads each sequence in reverse order."""
    read = read or (lambda cell, rows: cell(rows.transpose(0, 1))[0].transpose(0, 1))
    place = torch.arange(x.shape[1])
    turned = torch.where(real, lengths[:, None] - 1 - place, place)[..., None]
    there = read(mixer.directions[0], x)
    back = read(mixer.directions[1], x.gather(1, turned.expand_as(x)))
    return torch.cat([there, back.gather(1, turned.expand_as(back))], 2)


def recur_packed(mixer: Recurrent, x: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
    def read(cell: nn.LSTM, rows: Tensor) -> Tensor:
        packed = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(cell(packed)[0], batch_first=True, total_length=rows.shape[1])[0]

    return recur(mixer, x, lengths, real, read)


class Twin(nn.Module):
    """Encoder and read-out, with their weights, on padded ids [B, L]: scores [T, outputs] of the real rows."""

    def __init__(self, encoder: Encoder, readout: Readout, mix: Callable[..., Tensor]):
        super().__init__()
        self.encoder, self.readout, self.mix = encoder, readout, mix

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        x = self.encoder.embedding(ids.flatten()).view(*ids.shape, -1)
        for block in self.encoder.blocks:
            x = x + self.mix(block.mixer, block.norm_mixer(x), lengths, real)
            x = x + block.mlp(block.norm_mlp(x))
        return self.readout.scores(self.encoder.norm(x[real]))


class Torch(nn.Module):
    """torch.nn.TransformerEncoder of the same sizes."""

    def __init__(self, vocabulary: int, outputs: int):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.scores = nn.Linear(WIDTH, outputs)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        return self.scores(self.encoder(self.embedding(ids), src_key_padding_mask=~real)[real])


# --- training -------------------------------------------------------------------------------------------------------


def packed_batches(train: Examples) -> Iterator[list[int]]:
    plan = BatchPlan(train.lengths, TOKENS)
    return (batch for epoch in count() for batch in plan.epoch(epoch))


def random_batches(train: Examples) -> Iterator[list[int]]:
    random = torch.Generator().manual_seed(0)
    return (batch.tolist() for _ in count() for batch in torch.randperm(len(train), generator=random).split(ROWS))


class Run:
    """One side: a model, its batches and its optimizer."""

    def __init__(self, model: nn.Module, scores: Callable[[nn.Module, Examples], Tensor], batches, data: Data):
        self.model, self.scores, self.batches, self.data = model, scores, batches, data
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def turn(self, tokens: int) -> int:
        """Trains on as many batches as reach a number of tokens; returns how many they were."""
        done = 0
        while done < tokens:
            part = self.data.train.take(next(self.batches))
            total, targets = self.data.task.loss(self.scores(self.model, part), part)
            self.optimizer.zero_grad()
            (total / targets).backward()
            self.optimizer.step()
            done += len(part.inputs.values)
        return done


def packed_scores(model: nn.Sequential, part: Examples) -> Tensor:
    return model(part.inputs)


def padded_scores(model: nn.Module, part: Examples) -> Tensor:
    return model(*part.inputs.to_padded())


def compare(kind: str, data: Data, turns: int, tokens: int) -> dict:
    """The useful tokens/s of each side for one encoder on one data set, once all have shown to compute the same."""
    torch.manual_seed(0)
    size, outputs = data.tokenizer.size, data.task.outputs
    packed = nn.Sequential(build(kind, vocabulary=size, width=WIDTH, layers=LAYERS), Readout(WIDTH, outputs))
    twins = {
        "self-attention": {"padded": attend},
        "lstm": {"padded": recur, "PackedSequence": recur_packed},
        "convolution": {"padded": convolve},
    }
    padded = {name: Twin(*deepcopy(packed), mix) for name, mix in twins[kind].items()}
    if kind == "self-attention":
        padded["nn.TransformerEncoder"] = Torch(size, outputs)
    error = check(kind, packed, padded, data.train.take(next(random_batches(data.train))))

    runs = {"packed": Run(packed, packed_scores, packed_batches(data.train), data)}
    runs |= {name: Run(twin, padded_scores, random_batches(data.train), data) for name, twin in padded.items()}
    done: dict[str, list[int]] = {name: [] for name in runs}
    seconds = take_turns({name: lambda name=name: done[name].append(runs[name].turn(tokens)) for name in runs}, turns)
    speeds = {  # of the turns that are counted, which are the last
        name: [t / s for t, s in zip(done[name][-turns:], seconds[name], strict=True)] for name in runs
    }
    ours = median(speeds["packed"])
    return {
        "encoder": kind,
        "error": error,
        "tokens_per_second": {name: summary(speed) for name, speed in speeds.items()},
        "packed_over": {name: ours / median(speeds[name]) for name in padded},
        "target": TARGETS[kind],
    }


def check(kind: str, packed: nn.Module, padded: dict[str, nn.Module], part: Examples) -> float:
    """Largest difference of a twin's scores to the packed ones; for another model, of its scores under more padding.

    The twin's gradients must be those of the packed model, too, to the same share of the largest.
    """
    worst = 0.0
    for name, model in padded.items():
        scores = padded_scores(model, part)
        if isinstance(model, Twin):
            expected = packed_scores(packed, part)
            error = differ(gradients(scores, model), gradients(expected, packed))
            agree(f"{kind}, {name}, gradients", error, LIMIT)
        else:
            ids, lengths = part.inputs.to_padded()
            expected = model(nn.functional.pad(ids, (0, 7)), lengths)
        worst = max(worst, agree(f"{kind}, {name}", float((scores - expected).detach().abs().max()), LIMIT))
    return worst


def gradients(scores: Tensor, model: nn.Module) -> tuple[Tensor, ...]:
    """Of the mean square of scores, in the order of parameters, which a twin has alike."""
    return torch.autograd.grad(scores.square().mean(), list(model.parameters()), retain_graph=True)


def differ(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> float:
    error = max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))
    return error / max(float(b.abs().max()) for b in others)


def short(data: Data) -> Data:
    """A few short sequences, for a run that only shows that all sides agree."""
    chosen = [i for i, length in enumerate(data.train.lengths.tolist()) if length <= 40][:48]
    return replace(data, train=data.train.take(chosen))


def main() -> None:
    parser = arguments(__doc__.split("\n")[0], repeats=7, smoke={"tokens": 256})
    parser.add_argument("--tokens", type=int, default=32_768, help="tokens each side trains on in a turn")
    options = parser.parse_args()
    rows = []
    for name, data in {"EWT": ewt(options.data), "scope": load("scope")}.items():
        data = short(data) if options.smoke else data
        for kind in TARGETS:
            rows.append({"data": name, **compare(kind, data, options.repeats, options.tokens)})
            print(name, rows[-1], flush=True)
    show(
        f"training, useful tokens/s (median of {options.repeats} turns of {options.tokens:,} tokens), "
        f"and packed against each",
        ["data", "encoder", "packed", "others"],
        [
            [
                row["data"],
                row["encoder"],
                f"{row['tokens_per_second']['packed']['median']:,.0f}",
                "\n".join(
                    f"{name} {row['tokens_per_second'][name]['median']:,.0f}: "
                    + against(ratio, None if name == "PackedSequence" else row["target"])
                    for name, ratio in row["packed_over"].items()
                ),
            ]
            for row in rows
        ],
    )
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "tokens_in_a_pack": TOKENS, "rows_in_a_batch": ROWS}
    write(
        options.results,
        "training",
        {**sizes, "turns": options.repeats, "tokens_in_a_turn": options.tokens, "rows": rows},
    )


if __name__ == "__main__":
    main()
