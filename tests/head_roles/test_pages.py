"""The data of a page: numbers of heads.json under readable names, of one model or two, within its limits."""

import json

import pytest

from sightline.head_roles.page_data import MOST_RELATIONS, read_report, report_page
from tests.lens.fabricated_heads import OFFSETS, RELATIONS, report


def test_every_number_is_that_of_its_head():
    whole = report()
    data = report_page(whole)
    measures = {measure["name"]: measure for measure in data["measures"]}
    assert len(measures) == len(data["measures"]) == 1 + 10 + 1 + 2 + 2 * 21 + len(RELATIONS)
    for layer in range(3):
        for head in range(4):
            at = {name: measure["values"][0][4 * layer + head] for name, measure in measures.items()}
            assert at["layer"] == layer
            assert at["entropy"] == whole["measures"]["entropy"][layer][head]
            assert at["half of the weight lies within"] == 4
            before = whole["measures"]["word_offset_weight"][layer][head][OFFSETS.index(-1)]
            assert at["weight on the word before"] == before
            after = whole["measures"]["word_offset_best"][layer][head][OFFSETS.index(7)]
            assert at["largest weight on 7 words after"] == after
            assert at["coref:pronoun"] == whole["finds"]["coref:pronoun"][layer][head]
            same = whole["repeated"]["duplicate"][layer][head]
            assert at["weight on the same token, random text"] == same
    assert data["models"][0]["labels"] == {"0.1": ["looks at the word before"], "1.2": ["nsubj", "nsubj<-"]}
    assert data["models"][0]["notes"] == ["Left out: 2 texts."]
    assert data["measures"][data["start"]["y"]]["name"] == "weight on special tokens"
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_relations_come_by_their_questions_and_of_both_models():
    other = report("other", relations=("det", "mine"), layers=1, heads=2)
    data = report_page(report(), other)
    names = [one["name"] for one in data["relations"]]
    assert names == ["nsubj", "mine", "nsubj<-", "det", "coref:pronoun", "vocative"]
    rows = {one["name"]: one["models"] for one in data["relations"]}
    assert rows["mine"][0] is None and rows["nsubj"][1] is None and None not in rows["det"]
    measure = next(measure for measure in data["measures"] if measure["name"] == "mine")
    assert measure["values"][0] == [] and len(measure["values"][1]) == 2
    assert len(data["examples"][0]) == 12 and len(data["examples"][1]) == 2


def test_no_special_tokens_are_no_measure_to_begin_with():
    whole = report()
    whole["measures"]["special"] = [[0.0] * 4] * 3
    data = report_page(whole)
    assert data["measures"][data["start"]["y"]]["name"] == "weight on the first token"


def test_what_is_too_much_is_left_out_and_said():
    data = report_page(report(relations=tuple(map(str, range(MOST_RELATIONS + 7)))))
    assert len(data["relations"]) == MOST_RELATIONS and f"the {MOST_RELATIONS} with most questions" in data["about"][-1]


def test_other_words_and_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected beside it a report on the same words, got one of b on oth"):
        report_page(report(), report("b", words="1"))
    with pytest.raises(ValueError, match=r"heads.json: expected the heads.json of a report, got \[Errno 2"):
        read_report(tmp_path / "heads.json")
    for text in ("[]", "{}", '{"format": "sightline heads", "version": 2}'):
        (tmp_path / "heads.json").write_text(text)
        with pytest.raises(ValueError, match="expected the heads.json of a report, got another file"):
            read_report(tmp_path)
    without = {key: value for key, value in report().items() if key not in ("finds", "examples")}
    without["relations"] = [{key: v for key, v in row.items() if key != "wrong"} for row in without["relations"]]
    (tmp_path / "heads.json").write_text(json.dumps(without))
    with pytest.raises(ValueError, match="expected a whole heads.json, got one without finds, examples, wrong; name"):
        read_report(tmp_path)
    (tmp_path / "heads.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match="expected the heads.json of a report, got"):
        read_report(tmp_path)
    (tmp_path / "heads.json").write_text(json.dumps(report()))
    assert read_report(tmp_path) == read_report(tmp_path / "heads.json") == report()
