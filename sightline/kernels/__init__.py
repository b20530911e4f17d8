"""Everything in C and Triton, one source each with its loader; begin with `toolchain`, which compiles the sources in C.

attention          exact attention over packed sequences
statistics         the statistics of each head, per query and key; triton_statistics: the same on a GPU
head_sums          sums of each head over a corpus, for `head_roles`
lanes.c            vectors of floats, included by the others; arguments: the structs of statistics and head_sums
"""
