"""Fine-tune a Hugging Face model on packed batches with a plain loop: the padded model's loss, without padding.

python examples/train_without_padding.py [MODEL] [STEPS]
"""

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import sightline.huggingface

name = sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(name)
model = sightline.huggingface.unpad(AutoModelForSequenceClassification.from_pretrained(name, num_labels=2))
texts = [
    "I loved it.",
    "A joy from the first page to the last, and moving.",
    "Dull.",
    "I fell asleep before the end of the first act.",
]
labels = torch.tensor([1, 1, 0, 0])
batch = tokenizer(texts, padding=True, return_tensors="pt")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for step in range(steps):
    loss = model(**batch, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step in (0, steps - 1):
        print(f"step {step}: loss {loss:.3f}")
