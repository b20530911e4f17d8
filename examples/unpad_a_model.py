"""Run a Hugging Face model without padding, and see that the values are the same.

python examples/unpad_a_model.py [MODEL]
"""

import sys

import torch
from transformers import AutoModel, AutoTokenizer

import sightline.huggingface

name = sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2"
tokenizer = AutoTokenizer.from_pretrained(name)
texts = ["A text.", "A text that is a good deal longer than the first.", "One more."]
batch = tokenizer(texts, padding=True, return_tensors="pt")

with torch.no_grad():
    padded = AutoModel.from_pretrained(name).eval()(**batch).last_hidden_state
    packed = sightline.huggingface.unpad(AutoModel.from_pretrained(name).eval())(**batch).last_hidden_state
real = batch["attention_mask"].bool()
print(
    f"{int(real.sum())} tokens instead of {real.numel()}; largest difference {(padded - packed)[real].abs().max():.1e}"
)
