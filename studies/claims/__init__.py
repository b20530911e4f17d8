"""Ten claims about self-attention, each measured cell by cell and judged by a rule that was written before.

claim      what a claim is, and what is made of it     cell       one measurement, in a file of its own
wiring     1, 2: paths and fields                       counting   10: what attention is weak at
ngrams     3: convolution                               syntax     8: heads
parallel   4: dependent operations, time                uses       9: encoders and generators
memory     5: forgetting                                study      one task, learned by all encoders
nesting    6: hierarchy                                 run        measures what is missing, within a budget
length     7: lengths not trained on                    document   the JSON of it all;  prose, table: to be read
"""

from studies.claims.run import run_claims
from studies.claims.table import table

__all__ = ["run_claims", "table"]
