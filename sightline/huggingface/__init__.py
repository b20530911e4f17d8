"""The room for Hugging Face models: their attention computed packed and exactly, under the name "sightline".

    import sightline.huggingface
    model = AutoModel.from_pretrained(name, attn_implementation="sightline")

The only room that imports transformers; importing it registers the attention and its mask.
"""

from sightline.huggingface.check import check
from sightline.huggingface.packing import run, unpad

__all__ = ["check", "run", "unpad"]
