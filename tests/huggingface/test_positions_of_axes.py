"""Positions on several axes, as in models of text and images: packed texts stay apart; an image is no new text."""

import copy

import pytest
import torch
from torch.nn.functional import pad
from transformers import Qwen2VLTextModel
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig

from sightline.attention import watching
from sightline.huggingface import unpad
from sightline.huggingface.caller_packing import positions_of_text
from sightline.huggingface.row_layout import NAME
from tests.huggingface.small import SMALL, drawn


def qwen():
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    return drawn(Qwen2VLTextModel(Qwen2VLTextConfig(**SMALL, **ids, num_key_value_heads=2, rope_parameters=rope)))


def words(count, first=0):
    return torch.arange(first, first + count).expand(3, count)


def image(time, height, width, first=0):
    axes = torch.meshgrid(*map(torch.arange, (time, height, width)), indexing="ij")
    return torch.stack(axes).flatten(1) + first


TEXTS = [
    torch.cat([words(2), image(1, 2, 2, first=2), words(3, first=4)], 1),
    torch.cat([image(2, 2, 2), words(2, first=2)], 1),  # begins with frames of a film
    words(5),
]
LENGTHS = [len(one[0]) for one in TEXTS]
IDS = torch.randint(5, 95, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(0))
PACK = torch.cat(TEXTS, 1)[:, None]
COUNTED = torch.cat([torch.arange(n) for n in LENGTHS])[None, None]
SINGLE = {
    "an image between words": TEXTS[0],
    "a film first": TEXTS[1],
    "begun later": TEXTS[2] + 7,
    "backwards": TEXTS[0].flip(1),
    "gaps": 3 * TEXTS[2],
    "only the first axis returns": torch.stack([torch.arange(6) % 3, torch.arange(6), torch.arange(6)]),
    "two axes return": torch.stack([torch.arange(6), torch.arange(6) % 3, torch.arange(6) % 3]),
    "returns below the first": torch.tensor([2, 3, 0, 1, 2, 3]).expand(3, 6),
}


def prepared(implementation):
    model = qwen()
    if implementation == "unpad":
        return unpad(model)
    model.set_attn_implementation(implementation)
    return model


def close(result, expected):
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("implementation", [NAME, "unpad"])
@pytest.mark.parametrize("positions", [PACK, torch.cat([COUNTED, PACK])], ids=["three axes", "and the text's"])
def test_packed_texts_stay_apart(implementation, positions):
    eager, model = prepared("eager"), prepared(implementation)
    alone = zip(IDS.split(LENGTHS, 1), TEXTS, strict=True)
    expected = torch.cat([eager(ids, position_ids=one[:, None])[0][0] for ids, one in alone])
    offsets = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)])
    for extra in ({}, {"use_cache": False}, {"cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}):
        close(model(IDS, position_ids=positions, **extra)[0][0], expected)


@torch.no_grad()
@pytest.mark.parametrize("single", SINGLE)
def test_one_text_is_one_text(single):
    positions = SINGLE[single][:, None]
    ids = IDS[:, : positions.shape[2]]
    for extra in ({}, {"attention_mask": torch.ones_like(ids)}):
        expected = prepared("eager")(ids, position_ids=positions, **extra)[0]
        close(prepared(NAME)(ids, position_ids=positions, **extra)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("rows", ["three", "four", "three for all", "two dimensions"])
def test_a_padded_batch_runs_packed(side, rows):
    longest, attended = 12, []
    places = torch.arange(longest)
    mask = (places < torch.tensor(LENGTHS)[:, None]).long()
    positions = torch.stack([pad(one, (0, longest - one.shape[1]), value=1) for one in TEXTS], 1)
    positions = {
        "three": positions,
        "four": torch.cat([places.expand(1, 3, -1), positions]),
        "three for all": places.expand(3, 1, -1),
        "two dimensions": places[None],
    }[rows]
    inputs = {"attention_mask": mask, "position_ids": positions}
    if side == "left":
        inputs = {name: value.flip(-1) for name, value in inputs.items()}
    ids, model = torch.randint(5, 95, (3, longest), generator=torch.Generator().manual_seed(1)), prepared("unpad")
    with watching(lambda request, _: attended.append(len(request.q))):
        result = model(ids, **inputs)[0]
    real = inputs["attention_mask"].bool()
    close(result[real], prepared("eager")(ids, **inputs)[0][real])
    assert attended == [sum(LENGTHS)] * 2


def test_a_text_begins_where_all_axes_return():
    result = positions_of_text(PACK)
    assert torch.equal(result, COUNTED[0])
    assert torch.equal(positions_of_text(torch.cat([COUNTED, PACK])), COUNTED[0])
    assert torch.equal(positions_of_text(copy.deepcopy(TEXTS[1])[:, None])[0], torch.arange(LENGTHS[1]))
