"""The room for Hugging Face models: any of them without padding, and vectors of texts. Only it imports transformers.

Importing it registers the attention "sightline". Read `packing` first for models, `embed` first for vectors; each file
uses those below it:

    check         each use of a model, beside eager attention
    packing       `run` and `unpad`                              vector_files    `embed_to_file`, resumable
    unpadded      a padded call that runs packed inside          embed           texts to vectors
    packability   how a model packs, by trial, ...               loading         model and tokenizer, checked
    head_rows     ... and which rows its head reads, by trial    pooling_config  the pooling of a model's folder
    twin          the copy for trials                            pooling         rows to one vector
    structure     the model that a trial holds for               model_files     files in a folder or on the hub
    base_model    one forward pass of any model

    attention_function   the registered attention; it uses mask_rules, row_layout and caller_packing
"""

from sightline.huggingface.check import check
from sightline.huggingface.embed import embed
from sightline.huggingface.packing import run, unpad
from sightline.huggingface.vector_files import embed_to_file

__all__ = ["check", "embed", "embed_to_file", "run", "unpad"]
