"""Sequences: a batch of unequal sequences as one array of values and one list of offsets, so that nothing is padded.

The smallest true version:

    values  = [a0 a1 a2 | b0 | | d0 d1]     three rows, one row, none, two rows
    offsets = [0, 3, 4, 4, 6]               sequence s is values[offsets[s] : offsets[s + 1]]

Offsets live on the CPU, whatever device the values are on: they decide what is launched, and deciding must not wait
for a device. What follows from the offsets alone (positions, runs of equal lengths, the plans of attention) is computed
once, in their `Layout`, which every `Sequences` made with `with_values` shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # pyright: ignore[reportPrivateUsage]  # no public name imports so little
from torch.nn.utils.rnn import PackedSequence

from sightline.tabular import items_of

Result = TypeVar("Result")


class Layout:
    """Where the sequences of a pack begin and end: checked offsets, and what is computed from them, once.

    Made by `Sequences` or by `Layout.of`; never changed. `starts` holds the offsets in read-only memory, for kernels:
    writing into the tensor `offsets` cannot mislead them. `rows` is the number of rows, `longest` that of the longest
    sequence, 0 without sequences.
    """

    def __init__(self, offsets: bytes):
        self.starts = np.frombuffer(offsets, np.int64)
        lengths = np.diff(self.starts)
        self.rows, self.longest = int(self.starts[-1]), int(lengths.max(initial=0))
        with torch.inference_mode(False):
            self.offsets, self.lengths = torch.from_numpy(self.starts.copy()), torch.from_numpy(lengths)
        self._cache: dict[tuple[Any, ...], Any] = {}

    @classmethod
    def of(cls, offsets: Tensor, expected: str = "Layout: expected offsets") -> Layout:
        """The layout of bare offsets, int64 [S + 1] on the CPU; equal offsets share one, which all layers then use.

        Raises: ValueError where the first is not 0, or one is less than the one before; `expected` begins the message.
        """
        layout, fault = _shared(offsets.numpy().tobytes())
        if layout is None:
            raise ValueError(f"{expected} {fault}; use Sequences, which checks them once")
        return layout

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __reduce__(self):
        return Layout, (self.starts.tobytes(),)

    def cached(self, make: Callable[..., Result], *arguments: Any) -> Result:
        """`make(self, *arguments)`, computed once for these arguments, outside of inference mode.

        Neither the result nor the arguments may refer to this layout, or it would outlive its batch.
        """
        if torch.compiler.is_dynamo_compiling():
            return _untraced(self, make, *arguments)
        key = (make, *arguments)
        if key not in self._cache:
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            with torch.inference_mode(False):
                self._cache[key] = result = make(self, *arguments)
            return result
        return self._cache[key]


_untraced = _disable_dynamo(Layout.cached)  # a compiled graph breaks here: it depends on the offsets' values
MOST_CACHED = 64  # results that a layout keeps


@lru_cache(256)
def _shared(offsets: bytes) -> tuple[Layout | None, str | None]:
    """The layout of these offsets, or what is wrong with them."""
    starts = np.frombuffer(offsets, np.int64)
    fault = _fault(starts)
    return (None, fault[0]) if fault else (Layout(offsets), None)


def _runs(layout: Layout) -> list[tuple[int, int, int]]:
    return [(first, count, n) for first, _, _, count, n, _ in equal_runs(layout.starts, layout.starts)]


def _sequence_ids(layout: Layout, device: torch.device) -> Tensor:
    return torch.from_numpy(np.repeat(np.arange(len(layout)), np.diff(layout.starts))).to(device)


def _positions(layout: Layout, device: torch.device) -> Tensor:
    places = np.arange(layout.rows) - np.repeat(layout.starts[:-1], np.diff(layout.starts))
    return torch.from_numpy(places).to(device)


def equal_runs(starts: np.ndarray, key_starts: np.ndarray) -> list[list[int]]:
    """Runs of neighbours with n queries and m keys each: (first sequence, its first query and key, count, n, m)."""
    lengths = np.stack([np.diff(starts), np.diff(key_starts)])
    new = np.flatnonzero((np.diff(lengths, prepend=-1) != 0).any(0))
    counts = np.diff(new, append=lengths.shape[1])
    return np.stack([new, starts[new], key_starts[new], counts, *lengths[:, new]], 1).tolist()


class Sequences:
    """A batch of sequences of any lengths, packed: `values [T, ...]` and `offsets [S + 1]`; indexes like a list.

    Shapes: values [T, ...] on any device, offsets [S + 1] integers (kept as int64 on the CPU), T rows in S sequences.
    `layout` holds the offsets and what was computed from them; `attention` takes it.
    Raises: TypeError or ValueError where the offsets are not integers in one row, do not start at 0, fall, or do not
    end at the number of rows.

    >>> batch = Sequences.from_list([torch.tensor([1, 2, 3]), torch.tensor([]).long(), torch.tensor([4])])
    >>> batch.values, batch.offsets
    (tensor([1, 2, 3, 4]), tensor([0, 3, 3, 4]))
    >>> batch[-1], batch[:2].lengths
    (tensor([4]), tensor([3, 0]))
    """

    __slots__ = ("values", "layout")

    def __init__(self, values: Tensor, offsets: Tensor | Sequence[int]):
        if not isinstance(values, Tensor) or values.dim() == 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"Sequences: expected values as a tensor [T, ...], got {_kind(values)}; pass a tensor with rows"
            )
        self.values = values
        make = _untraced_layout if torch.compiler.is_dynamo_compiling() else _checked_layout
        self.layout = make(offsets, len(values))

    # --- what follows from the offsets -------------------------------------------------------------------------------

    @property
    def offsets(self) -> Tensor:
        """int64 [S + 1] on the CPU: sequence s is `values[offsets[s]:offsets[s + 1]]`."""
        return self.layout.offsets

    @property
    def lengths(self) -> Tensor:
        """int64 [S] on the CPU: rows of each sequence."""
        return self.layout.lengths

    @property
    def positions(self) -> Tensor:
        """int64 [T] on the device of the values: the place of each row in its own sequence, from 0."""
        return self.layout.cached(_positions, self.values.device)

    @property
    def sequence_ids(self) -> Tensor:
        """int64 [T] on the device of the values: the sequence each row belongs to."""
        return self.layout.cached(_sequence_ids, self.values.device)

    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """Maximal runs of equal lengths side by side, as (first sequence, count, length): each is one dense array."""
        return self.layout.cached(_runs)

    def with_values(self, values: Tensor) -> Sequences:
        """The same layout over other values; costs nothing.

        Raises: ValueError where the number of rows differs.
        """
        if len(values) != len(self.values):
            raise ValueError(
                f"Sequences.with_values: expected {len(self.values)} rows, got {len(values)}; keep one row for "
                "each old one"
            )
        new = Sequences.__new__(Sequences)
        new.values, new.layout = values, self.layout
        return new

    def to(self, *args: Any, **kwargs: Any) -> Sequences:
        """The same sequences with their values on another device or of another dtype, as `Tensor.to`."""
        return self.with_values(self.values.to(*args, **kwargs))

    # --- a list of tensors -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.to_list())

    @overload
    def __getitem__(self, index: slice | list[int] | Tensor) -> Sequences: ...
    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Tensor: ...
    def __getitem__(self, index: Any) -> Any:
        """An integer gives one sequence (a view); a slice, list or tensor of integers or booleans gives `Sequences`."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:  # neighbours stay a view
                stop = max(start, stop)
                bounds = self.offsets[start : stop + 1]
                return Sequences(self.values[bounds[0] : bounds[-1]], bounds - bounds[0])
            return self._gather(torch.arange(len(self), device="cpu")[range(start, stop, step)])
        if isinstance(index, (list, Tensor)) and not (isinstance(index, Tensor) and index.dim() == 0):
            return self._gather(self._checked_index(index))
        try:
            s = index.__index__()
        except AttributeError:
            raise TypeError(
                f"Sequences: expected an integer, a slice, a list or a tensor as index, got {_kind(index)}; index "
                "sequences first, then their rows"
            ) from None
        if not -len(self) <= s < len(self):
            count = f"{len(self)} sequences"
            raise IndexError(f"Sequences: expected an index below {count}, got {s}; check the batch's length")
        s %= len(self)
        return self.values[self.offsets[s] : self.offsets[s + 1]]

    def _checked_index(self, index: list[int] | Tensor) -> Tensor:
        index = torch.as_tensor(index, device="cpu") if len(index) else torch.zeros(0, dtype=torch.int64, device="cpu")
        if index.dim() != 1 or index.is_floating_point() or index.is_complex():
            raise TypeError(
                f"Sequences: expected one row of integers or booleans as index, got {_kind(index)}; flatten it"
            )
        if index.dtype == torch.bool:
            if len(index) != len(self):
                count, size = f"{len(self)} sequences", len(index)
                raise IndexError(
                    f"Sequences: expected a boolean for each of {count}, got {size}; make the mask as long"
                )
            return index.nonzero().flatten()
        if len(index) and not (-len(self) <= int(index.min()) and int(index.max()) < len(self)):
            count, some = f"{len(self)} sequences", index.tolist()[:8]
            raise IndexError(f"Sequences: expected indices below {count}, got {some}; check the batch's length")
        return index.long() % max(len(self), 1)

    def _gather(self, index: Tensor) -> Sequences:
        lengths = self.lengths[index]
        rows = rows_from(self.offsets[index], lengths)
        return Sequences(self.values.index_select(0, rows.to(self.values.device)), offsets_of(lengths))

    def __repr__(self) -> str:
        return (
            f"Sequences({len(self)} sequences, {len(self.values)} rows, "
            f"row shape {list(self.values.shape[1:])}, {self.values.dtype}, {self.values.device})"
        )

    # --- from and to other forms -------------------------------------------------------------------------------------

    @classmethod
    def from_list(cls, tensors: Sequence[Tensor]) -> Sequences:
        """Packs tensors [n_s, ...] that agree in all but their length.

        Raises: ValueError where the list is empty (nothing says what a row looks like) or row shapes differ.
        """
        if not isinstance(tensors, (list, tuple)):
            tensors = list(items_of(tensors, "Sequences.from_list", "tensors"))
        if len(tensors) == 0:
            raise ValueError(
                "Sequences.from_list: expected at least one tensor, got an empty list; for no sequences use "
                "Sequences(values[:0], [0])"
            )
        if not all(isinstance(t, Tensor) for t in tensors):  # pyright: ignore[reportUnnecessaryIsInstance]
            kinds = ", ".join(sorted({type(t).__name__ for t in tensors}))
            raise TypeError(f"Sequences.from_list: expected tensors, got {kinds}; make them with torch.tensor")
        shapes = {tuple(t.shape[1:]) for t in tensors}
        if len(shapes) > 1 or any(t.dim() == 0 for t in tensors):
            raise ValueError(
                f"Sequences.from_list: expected tensors [n, ...] with one row shape, got {sorted(shapes)}; make the "
                "rows alike"
            )
        return cls(torch.cat(list(tensors)), offsets_of(torch.tensor([len(t) for t in tensors], device="cpu")))

    def to_list(self) -> list[Tensor]:
        """One tensor [n_s, ...] for each sequence, each a view."""
        return list(self.values.split(self.lengths.tolist())) if len(self) else []

    @classmethod
    def from_padded(cls, padded: Tensor, lengths: Tensor | Sequence[int]) -> Sequences:
        """Takes the first `lengths[s]` rows of each `padded[s]`.

        Shapes: padded [S, L, ...], lengths [S].
        Raises: ValueError where there is not one length from 0 to L for each sequence.
        """
        lengths = torch.as_tensor(lengths, device="cpu").long()
        if padded.dim() < 2 or lengths.shape != padded.shape[:1]:
            raise ValueError(
                f"Sequences.from_padded: expected padded [S, L, ...] and lengths [S], got {list(padded.shape)} and "
                f"{list(lengths.shape)}; give one length for each sequence"
            )
        if len(lengths) and not (0 <= int(lengths.min()) and int(lengths.max()) <= padded.shape[1]):
            raise ValueError(
                f"Sequences.from_padded: expected lengths from 0 to {padded.shape[1]}, got {int(lengths.min())} to "
                f"{int(lengths.max())}; check that padded is [S, L, ...]"
            )
        real = torch.arange(padded.shape[1], device="cpu") < lengths[:, None]
        return cls(padded[real.to(padded.device)], offsets_of(lengths))

    def to_padded(self, value: float = 0) -> tuple[Tensor, Tensor]:
        """(padded [S, L, ...] filled up with `value`, lengths [S]), L the longest length.

        >>> Sequences(torch.tensor([1, 2, 3]), [0, 2, 3]).to_padded(-1)
        (tensor([[ 1,  2],
                [ 3, -1]]), tensor([2, 1]))
        """
        longest = self.layout.longest
        padded = self.values.new_full((len(self), longest, *self.values.shape[1:]), value)
        padded = padded.index_put((self.sequence_ids, self.positions), self.values)
        return padded, self.lengths

    @classmethod
    def from_packed(cls, packed: PackedSequence) -> Sequences:
        """Takes over PyTorch's time-major `PackedSequence`, in the order the sequences were given to it."""
        order = _packed_order(packed.batch_sizes)
        sorted_lengths = (packed.batch_sizes[:, None] > torch.arange(int(packed.batch_sizes[0]))).sum(0)
        in_sorted_order = cls(packed.data.index_select(0, order.to(packed.data.device)), offsets_of(sorted_lengths))
        unsorted = packed.unsorted_indices
        return in_sorted_order if unsorted is None else in_sorted_order[unsorted]

    def to_packed(self) -> PackedSequence:
        """PyTorch's time-major `PackedSequence`, which sorts by length and remembers the order.

        Raises: ValueError where a sequence has no rows, or there is none: `PackedSequence` cannot hold that.
        """
        if len(self) == 0 or int(self.lengths.min()) == 0:
            raise ValueError(
                "Sequences.to_packed: expected at least one row in every sequence, got an empty one; PackedSequence "
                "cannot hold it, select the others first"
            )
        sorted_indices = torch.argsort(self.lengths, descending=True, stable=True)
        ordered = self[sorted_indices]
        batch_sizes = (ordered.lengths[:, None] > torch.arange(int(ordered.lengths[0]))).sum(0)
        order = _packed_order(batch_sizes)
        to_time_major = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        device = self.values.device
        return PackedSequence(
            ordered.values.index_select(0, to_time_major.to(device)),
            batch_sizes,
            sorted_indices.to(device),
            torch.argsort(sorted_indices).to(device),
        )


def _packed_order(batch_sizes: Tensor) -> Tensor:
    """For sequences sorted by falling length: where each row, sequence by sequence, stands in time-major order."""
    starts = batch_sizes.cumsum(0) - batch_sizes
    alive = batch_sizes > torch.arange(int(batch_sizes[0]))[:, None]  # [S, L]
    return (starts + torch.arange(int(batch_sizes[0]))[:, None])[alive]


def offsets_of(lengths: Tensor) -> Tensor:
    """Offsets [S + 1] of sequences of these lengths [S]."""
    return torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), lengths.long().cumsum(0)])


def rows_from(starts: Tensor, lengths: Tensor) -> Tensor:
    """The numbers of the rows of some ranges, range by range: `lengths[s]` rows from `starts[s]` on.

    >>> rows_from(torch.tensor([7, 0]), torch.tensor([2, 3]))
    tensor([7, 8, 0, 1, 2])
    """
    rows = torch.arange(int(lengths.sum()), device="cpu")
    return rows + torch.repeat_interleave(starts - offsets_of(lengths)[:-1], lengths)


def _checked_layout(offsets: Tensor | Sequence[int], rows: int) -> Layout:
    offsets = torch.as_tensor(offsets, device="cpu")
    integers = offsets.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)
    if not integers or offsets.dim() != 1 or len(offsets) == 0:
        raise TypeError(
            f"Sequences: expected offsets as one row of integers [S + 1], got {_kind(offsets)}; make them int64"
        )
    starts = offsets.numpy().astype(np.int64)
    fault = _fault(starts, rows)
    if fault:
        raise ValueError(f"Sequences: expected offsets {fault[0]}; {fault[1]}")
    return Layout(starts.tobytes())


_untraced_layout = _disable_dynamo(_checked_layout)


def _fault(starts: np.ndarray, rows: int | None = None) -> tuple[str, str] | None:
    """What is wrong with offsets, and what to do; without `rows`, they may end anywhere."""
    if len(starts) == 0 or starts[0] != 0:
        return f"that start at 0, got {starts[:1].tolist()[0] if len(starts) else 'none'}", "put a 0 in front"
    falls = np.flatnonzero(np.diff(starts) < 0)
    if len(falls):
        s = int(falls[0])
        return f"that never fall, got {starts[s]} then {starts[s + 1]} at sequence {s}", "sort out the lengths"
    if rows is not None and starts[-1] != rows:
        return f"that end at {rows} rows, got {starts[-1]}", "count the rows again"
    return None


def _kind(thing: Any) -> str:
    if isinstance(thing, Tensor):
        return f"a tensor {list(thing.shape)} of {thing.dtype}"
    return type(thing).__name__
