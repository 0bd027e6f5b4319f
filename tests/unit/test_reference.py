"""The reference arithmetic against the notebook's formula, written here on its own in float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.measure import reference
from sts_core.measure.reference import sts, top_shifted

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def plain_shift(icl: torch.Tensor, base: torch.Tensor) -> np.ndarray:
    """Σ over the rows both have, at most 10,000, of the squared difference: [features]."""
    rows = min(len(icl), len(base), 10_000)
    a, b = (tensor[:rows].to(torch.float64).numpy() for tensor in (icl, base))
    return np.einsum("tf,tf->f", a - b, a - b)


def plain_sts(features: torch.Tensor, dims: list[int], icl: torch.Tensor | None) -> float:
    """The mean over dims of the mean over rows of h² or of the squared difference."""
    rows = min(len(features), 10_000, len(features) if icl is None else len(icl))
    h = features[:rows].to(torch.float64).numpy()
    if icl is not None:
        h = icl[:rows].to(torch.float64).numpy() - h
    return float(np.mean([np.mean(h[:, d] ** 2) for d in dims]))


def is_a_top(chosen: list[int], sums: np.ndarray, n: int) -> bool:
    """Whether these are n features that no other one exceeds, ties and 1e-6 of rounding aside."""
    last = np.sort(sums)[-n]
    certain = set(np.flatnonzero(sums > last * (1 + 1e-6)))
    return len(set(chosen)) == n and certain <= set(chosen) and bool(np.all(sums[chosen] >= last * (1 - 1e-6)))


@st.composite
def arms(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors of like features and unlike rows: sparse, at times of few values, so that sums are tied."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = draw(st.integers(1, 40))
    dtype, scale = draw(st.sampled_from(DTYPES)), draw(st.sampled_from([1e-3, 1.0, 50.0]))
    tied, found = draw(st.booleans()), []
    for rows in (draw(st.integers(1, 30)), draw(st.integers(1, 30))):
        values = random.integers(0, 3, (rows, features)) if tied else random.gamma(1.0, 1.0, (rows, features))
        found.append(torch.from_numpy(values * scale * (random.random((rows, features)) < 0.6)).to(dtype))
    return found[0], found[1]


@given(arms(), st.data())
@settings(deadline=None)
def test_both_equal_the_plain_formula(pair: tuple[torch.Tensor, torch.Tensor], data: st.DataObject) -> None:
    icl, base = pair
    n = data.draw(st.integers(1, base.shape[1]))
    chosen = top_shifted(icl, base, n)
    sums = plain_shift(icl, base)
    assert chosen.dtype is torch.int64
    assert chosen.shape == (n,)
    assert is_a_top(chosen.tolist(), sums, n)
    dims = data.draw(st.lists(st.integers(0, base.shape[1] - 1), min_size=1, max_size=12))
    assert sts(base, dims) == pytest.approx(plain_sts(base, dims, None), rel=1e-6, abs=1e-12)
    assert sts(base, dims, icl) == pytest.approx(plain_sts(base, dims, icl), rel=1e-6, abs=1e-12)
    assert sts(base, chosen, icl) == pytest.approx(plain_sts(base, chosen.tolist(), icl), rel=1e-6, abs=1e-12)


def test_the_check_of_a_top_can_fail() -> None:
    sums = np.array([3.0, 1.0, 2.0, 2.0])
    assert is_a_top([0, 2], sums, 2)
    assert is_a_top([3, 0], sums, 2)
    assert not is_a_top([0, 1], sums, 2)
    assert not is_a_top([2, 3], sums, 2)
    assert not is_a_top([0, 0], sums, 2)


def test_equal_sums_give_the_lower_feature_first() -> None:
    icl = torch.tensor([[1.0, 2.0, -2.0, 0.0, 2.0]])
    assert top_shifted(icl, torch.zeros(1, 5), 4).tolist() == [1, 2, 4, 0]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_of_any_size_agree(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    random = torch.Generator().manual_seed(0)
    icl, base = (torch.randn(53, 11, generator=random) for _ in range(2))
    whole = top_shifted(icl, base, 11).tolist(), sts(base, [1, 5]), sts(base, [1, 5], icl)
    monkeypatch.setattr(reference, "_CHUNK", chunk)
    parts = top_shifted(icl, base, 11).tolist(), sts(base, [1, 5]), sts(base, [1, 5], icl)
    assert parts[0] == whole[0]
    assert parts[1:] == pytest.approx(whole[1:], rel=1e-12)


def test_rows_beyond_ten_thousand_are_not_read() -> None:
    """As the notebook cuts each tensor when it loads it; row 10,000 would decide everything."""
    base = torch.rand(10_002, 3, generator=torch.Generator().manual_seed(1))
    icl = base.clone()
    icl[9_999, 1] += 5
    icl[10_000, 2] += 1e6
    assert top_shifted(icl, base, 2).tolist() == [1, 0]
    assert sts(icl, [2]) == pytest.approx(plain_sts(icl, [2], None), rel=1e-6)
    assert sts(base, [1], icl) == pytest.approx(25 / 10_000, rel=1e-5)


def test_a_small_difference_of_large_values_survives_many_rows() -> None:
    """A running float32 sum would lose it: 10,000 rows of 1000.25² drift by 1e-4 and more."""
    base = torch.full((10_000, 2), 1000.25)
    assert sts(base, [0]) == pytest.approx(1000.25**2, rel=1e-12)


def test_the_tensors_are_left_as_they_were() -> None:
    icl, base = torch.rand(5, 4, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    before = icl.clone(), base.clone()
    top_shifted(icl, base, 2)
    sts(base, [0, 1], icl)
    assert torch.equal(icl, before[0])
    assert torch.equal(base, before[1])


@pytest.mark.parametrize("dims", [[0, 2], (0, 2), np.array([0, 2]), torch.tensor([0, 2], dtype=torch.int32)])
def test_dims_may_be_any_list_of_numbers(dims: object) -> None:
    base = torch.tensor([[1.0, 9.0, 3.0]])
    assert sts(base, dims) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: top_shifted(torch.ones(2, 3), torch.ones(2, 4), 1), "3 features, the other 4"),
        (lambda: top_shifted(torch.ones(3), torch.ones(3), 1), "shape"),
        (lambda: top_shifted(torch.ones(2, 3), torch.ones(2, 3), 4), "n is 4"),
        (lambda: top_shifted(torch.ones(2, 3), torch.ones(2, 3), 0), "n is 0"),
        (lambda: top_shifted(torch.ones(0, 3), torch.ones(2, 3), 1), "no rows"),
        (lambda: top_shifted(torch.full((2, 3), torch.nan), torch.ones(2, 3), 1), "no number"),
        (lambda: sts(torch.ones(2, 3), []), "dimensions"),
        (lambda: sts(torch.ones(2, 3), [3]), "dimensions"),
        (lambda: sts(torch.ones(2, 3), [-1]), "dimensions"),
        (lambda: sts(torch.ones(2, 3), [0.5]), "dimensions"),  # type: ignore[list-item]
        (lambda: sts(torch.ones(2, 3), [0], torch.ones(2, 4)), "4 features, the other 3"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_hint(call: object, told: str) -> None:
    with pytest.raises(UserError, match=told) as refused:
        call()  # type: ignore[operator]
    assert refused.value.hint
