"""`check` finds what is exact, names what is not routed, and would see an attention that is wrong."""

import pytest
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DebertaV2Config,
    DebertaV2Model,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from sightline.huggingface import check
from sightline.huggingface.check import Checked, Row
from sightline.huggingface.row_layout import NAME
from tests.huggingface.small import SMALL, bert, drawn, each_model


class BertLastRow(BertForSequenceClassification):
    def forward(self, input_ids, attention_mask=None, **others):
        rows = self.bert(input_ids, attention_mask=attention_mask, **others).last_hidden_state
        return SequenceClassifierOutput(logits=self.classifier(rows[:, -1]))


@each_model
def test_check_finds_these_exact_and_leaves_them_as_they_were(make):
    model = make()
    model.train()
    model.set_attn_implementation("sdpa")
    checked = check(model)
    assert checked.exact, checked.rows
    assert model.training and model.config._attn_implementation == "sdpa"
    assert all(p.grad is None for p in model.parameters())
    outcomes = {row.what: row.outcome for row in checked.rows}
    assert outcomes["routed"] == outcomes["gradient = eager"] == "exact"


def test_check_names_a_model_that_does_not_route():
    checked = check(drawn(DebertaV2Model(DebertaV2Config(**SMALL))))
    assert not checked.exact
    assert (
        checked.rows[0].sentence
        == "DebertaV2Model computes its own attention, not transformers' interface; use it as it is"
    )


@pytest.mark.parametrize(
    ("kind", "unpadded", "packed"),
    [
        (BertForSequenceClassification, "runs packed", "refused"),
        (BertForTokenClassification, "runs packed", "exact"),
        (BertLastRow, "runs padded", "refused"),
    ],
)
def test_check_says_of_a_head_what_runs_packed(kind, unpadded, packed):
    checked = check(drawn(kind(BertConfig(**SMALL))))
    rows = {row.what: row for row in checked.rows}
    assert checked.exact and rows["packed = alone"].outcome == packed
    assert rows["unpad = eager"].outcome == "exact" and rows["unpad = eager"].sentence == unpadded
    assert rows["gradient = eager"].outcome == "exact"


def test_check_finds_a_wrong_attention(monkeypatch):
    from sightline.huggingface import attention_function as attending

    real = attending.attention
    monkeypatch.setattr(attending, "attention", lambda q, k, v, *a, **b: real(q, k, v * 1.001, *a, **b))
    checked = check(bert())
    assert not checked.exact
    assert {row.what: row.outcome for row in checked.rows}["padded = eager"] == "wrong"


def test_a_refusal_elsewhere_does_not_make_a_model_inexact_but_a_wrong_value_does():
    rows = [Row(what, "exact", 0.0, "") for what in ("routed", "padded = eager", "run = alone")]
    assert Checked((*rows, Row("packed = alone", "refused", None, "why"))).exact
    assert not Checked((*rows, Row("packed = alone", "wrong", 1.0, "why"))).exact
    assert not Checked(tuple(rows[:2])).exact


def test_the_name_is_plain():
    assert NAME == "sightline"
