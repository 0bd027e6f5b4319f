"""Token ids of many prompts that begin alike: the beginning is held once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import overload


class Tokens(Sequence[int]):
    """Ids whose first ones may be another prompt's as well; reads like a list."""

    __slots__ = ("_first", "_rest")

    def __init__(self, ids: Sequence[int], like: Tokens | None = None, at_most: int = 0) -> None:
        """With `like`, the first `at_most` ids are shared with it if they are the same in both."""
        shared: array[int] = like._first if like is not None else array("i", ids[:at_most])
        if len(shared) > at_most or list(ids[: len(shared)]) != shared.tolist():
            shared = array("i")
        self._first: array[int] = shared
        self._rest: array[int] = array("i", ids[len(shared) :])

    def __len__(self) -> int:
        return len(self._first) + len(self._rest)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> list[int]: ...

    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, int):
            return self._all()[at]
        start, stop, step = at.indices(len(self))
        before = len(self._first)
        if start >= before and step > 0:
            return self._rest[start - before : max(start, stop) - before : step].tolist()
        return self._all()[at].tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Tokens, list)) and self._all().tolist() == list(other)

    def _all(self) -> array[int]:
        return self._first + self._rest

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
