"""What each head of a model looks at: numbers, and a page that needs no network.

python examples/look_at_a_model.py [MODEL]
"""

import sys

from transformers import AutoModel, AutoTokenizer

import sightline

name = sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2"
tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name)
text = "The Law will never be perfect, but its application should be just."
with sightline.watch(model) as seen:
    model(**tokenizer(text, return_tensors="pt"))
for number in range(seen.layers):
    layer = seen.layer(number)
    entropy, distance = layer.entropy.mean(0), layer.distance.mean(0)
    head = int(entropy.argmin())
    print(f"layer {number}: head {head} is the sharpest, {entropy[head]:.2f} nats, {distance[head]:.1f} tokens away")
print("page:", sightline.lens.write_page(sightline.look(name, text, link="its:Law"), "look.html"))
