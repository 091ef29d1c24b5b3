"""The order of the rows: every epoch whole, like lengths together, from the seed and a number."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from instruction_tuning.tuning_batches import RowSampler, parts_of

LENGTHS = random.Random(0).choices(range(5, 61), k=203)


def drawn(sampler: RowSampler, count: int) -> list[list[int]]:
    return [sampler.next_rows() for _ in range(count)]


@pytest.mark.parametrize("sorted_together", [1, 8])
def test_every_row_comes_once_an_epoch(sorted_together: int) -> None:
    lengths = LENGTHS[:192]  # 3 blocks of 8 minibatches of 8
    sampler = RowSampler(lengths, 8, seed=0, sorted_together=sorted_together)
    for epoch in (1, 2):
        rows = [row for batch in drawn(sampler, 24) for row in batch]
        assert sorted(rows) == list(range(192)), f"epoch {epoch}"
        assert sampler.epochs == epoch


def test_epochs_follow_each_other_without_a_rest() -> None:
    """203 rows are 25.4 minibatches: the 26th goes on in the next epoch, and no row is lost."""
    rows = Counter(row for batch in drawn(RowSampler(LENGTHS, 8, seed=3), 203) for row in batch)
    assert set(rows.values()) <= {7, 8, 9} and sum(rows.values()) == 8 * 203


def test_a_minibatch_depends_on_seed_and_number_alone() -> None:
    whole = drawn(RowSampler(LENGTHS, 8, seed=1), 40)
    resumed = RowSampler(LENGTHS, 8, seed=1)
    resumed.number = 29
    assert drawn(resumed, 11) == whole[29:]
    assert [RowSampler(LENGTHS, 8, seed=1).rows_of(k) for k in (39, 3)] == [whole[39], whole[3]]
    assert drawn(RowSampler(LENGTHS, 8, seed=2), 40) != whole


def test_like_lengths_stand_together_and_save_padding() -> None:
    def padded(sorted_together: int) -> int:
        sampler = RowSampler(LENGTHS, 16, seed=0, sorted_together=sorted_together)
        return sum(16 * max(LENGTHS[row] for row in rows) for rows in drawn(sampler, 120))

    real = sum(LENGTHS) / len(LENGTHS) * 16 * 120
    assert padded(8) / real < 1.15 < 1.5 < padded(1) / real
    firsts = [LENGTHS[rows[0]] for rows in drawn(RowSampler(LENGTHS, 16, seed=0), 24)]
    assert firsts != sorted(firsts), "the short minibatches do not all come first"


def test_a_minibatch_may_be_larger_than_the_data() -> None:
    rows = RowSampler([4, 5, 6], 8, seed=0).next_rows()
    assert len(rows) == 8 and set(rows) == {0, 1, 2}


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="the training data have 0 rows"):
        RowSampler([], 8, seed=0)


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_parts_are_the_whole(parts: int) -> None:
    cut = parts_of(list(range(8)), parts)
    assert sum(map(list, cut), []) == list(range(8)) and len(cut) == parts
