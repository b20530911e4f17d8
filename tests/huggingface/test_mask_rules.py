"""Masks of transformers as rules: each is what transformers itself evaluates, and an unknown mask has no rule."""

import pytest
import torch
from transformers import masking_utils

from sightline.attention import FULL, Pattern
from sightline.huggingface.mask_rules import MaskRule, mask_rule

MASKS = {
    "causal": (masking_utils.causal_mask_function, Pattern(right=0)),
    "all": (masking_utils.bidirectional_mask_function, FULL),
    "causal window": (masking_utils.sliding_window_causal_mask_function(4), Pattern(3, 0)),
    "window": (masking_utils.sliding_window_bidirectional_mask_function(4), Pattern(4, 4)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_read_as_transformers_evaluates_it(name):
    function, pattern = MASKS[name]
    assert mask_rule(function) == MaskRule(pattern)
    seen = masking_utils.sdpa_mask(
        1, 11, 11, mask_function=function, allow_is_causal_skip=False, allow_is_bidirectional_skip=False
    )[0, 0]
    reach = torch.arange(11) - torch.arange(11)[:, None]
    expected = torch.ones(11, 11, dtype=torch.bool)
    expected &= reach >= -(11 if pattern.left is None else pattern.left)
    expected &= reach <= (11 if pattern.right is None else pattern.right)
    assert torch.equal(seen, expected)


def test_masks_that_cannot_be_joined_are_not_read():
    two = masking_utils.and_masks(*(masking_utils.chunked_overlay(n, torch.zeros(1)) for n in (2, 3)))
    assert mask_rule(two) is None
    assert mask_rule(masking_utils.and_masks(lambda *_: torch.ones(()), masking_utils.causal_mask_function)) is None
    assert mask_rule(None) is None
