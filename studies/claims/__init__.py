"""Ten claims about self-attention: each is measured cell by cell and judged by a rule that was written beforehand.

Nothing in the library imports this room. Begin with `claim` (what a claim is), then `wiring` (claims 1 and 2).

wiring      1, 2  paths and receptive fields        hierarchy           6     brackets and nested lists
ngrams      3     convolutions detect n-grams       length              7     lengths beyond the trained ones
parallel    4     dependent operations, time        syntax              8     heads and relations
forgetting  5     memory over distance              encoder_generator   9     texts and source code
                                                    counting            10    weaknesses of self-attention

cell        one measurement and its file            study               one task, learned by all encoders
run         measures what is missing                document            claims.json, for page, markdown, picture
"""

from studies.claims.run import run_claims
from studies.claims.verdict_table import verdict_table

__all__ = ["run_claims", "verdict_table"]
