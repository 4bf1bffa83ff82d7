import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard

from hf_nat.training.sampler import TokenBatchSampler


LENGTHS = np.random.default_rng(0).integers(1, 40, size=500)


def padded_size(batch):
    return len(batch) * LENGTHS[batch].max()


def test_every_row_once_within_the_budget():
    batches = list(TokenBatchSampler(LENGTHS, max_tokens=100))
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    assert max(map(padded_size, batches)) <= 100


def test_batches_hold_rows_of_similar_length():
    tokens = LENGTHS.sum()
    assert tokens / sum(map(padded_size, TokenBatchSampler(LENGTHS, max_tokens=400))) > 0.95


def test_epochs_differ_but_keep_their_number_of_batches():
    sampler = TokenBatchSampler(LENGTHS, max_tokens=100, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    assert len(first) == len(second) == len(sampler)
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_same_seed_and_epoch_give_the_same_batches():
    one, other = (TokenBatchSampler(LENGTHS, max_tokens=100, seed=1) for _ in range(2))
    one.set_epoch(3)
    other.set_epoch(3)
    assert list(one) == list(other)
    assert list(one) != list(TokenBatchSampler(LENGTHS, max_tokens=100, seed=2))


def test_processes_share_the_batches_of_one_process_in_turn():
    sampler = TokenBatchSampler(LENGTHS, max_tokens=100)
    alone = list(sampler)
    shares = [list(BatchSamplerShard(sampler, num_processes=2, process_index=rank)) for rank in range(2)]
    rounds = len(alone) // 2
    assert [len(share) for share in shares] == [rounds, rounds]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == alone[: 2 * rounds]


def test_row_over_the_budget_is_named():
    with pytest.raises(ValueError, match="got 10 for row 1 of 11 tokens"):
        TokenBatchSampler([3, 11], max_tokens=10)


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="at least one row, got none"):
        TokenBatchSampler([], max_tokens=10)
