"""Everything written in C, one source each, and what compiles it; begin with `toolchain`.

attention.c   exact attention over packed sequences      statistics.c   what each head attends to, in numbers
head_sums.c   what `head_roles` counts over a corpus     lanes.c        vectors of floats, included by the others
"""
