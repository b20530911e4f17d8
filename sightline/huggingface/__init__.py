"""The room for Hugging Face models: their attention computed packed and exactly, under the name "sightline".

    import sightline.huggingface
    model = AutoModel.from_pretrained(name, attn_implementation="sightline")

The only room that imports transformers; importing it registers the attention and its mask.
"""

from sightline.huggingface.check import check
from sightline.huggingface.embed import embed
from sightline.huggingface.packing import run, unpad
from sightline.huggingface.vector_files import embed_to_file

__all__ = ["check", "embed", "embed_to_file", "run", "unpad"]
