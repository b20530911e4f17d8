"""Attention on a GPU."""


def refuses(q, k, v, pattern, dropout):
    return f"cuda: expected tensors on a GPU, got {q.device}; move them"
