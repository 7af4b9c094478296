"""Hash tables against looking at every row, and the statistics of their buckets (lecture 20.2)."""

import math

import numpy as np
import pytest

from dlcore.retrieval import _table as table


def packed_from(code):
    bits = code.shape[1]
    whole = (code << np.arange(bits, dtype=np.uint64)).sum(1)
    words = [whole >> np.uint64(32 * w) & np.uint64(2**32 - 1) for w in range(-(-bits // 32))]
    return np.stack(words, 1).astype(np.uint32)


def drawn(n, bits, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n, bits)).astype(np.uint64)


@pytest.mark.parametrize(("bits", "radius"), [(6, 0), (6, 2), (6, 9), (33, 3), (64, 2)])
def test_a_look_up_finds_the_ball_by_distance_then_row(bits, radius):
    code = drawn(50, bits)
    # Neighbours at known distances, also where codes are long.
    for i, flips in enumerate((1, 2, 3)):
        code[i] = code[49]
        code[i, :flips] ^= 1
    packed = packed_from(code)
    found = table.probe(table.build(packed, bits), packed[49], radius)
    distance = (code != code[49]).sum(1)
    expected = sorted((d, i) for i, d in enumerate(distance) if d <= radius)
    assert list(zip(found.distance, found.rows, strict=True)) == expected
    assert found.probes == sum(math.comb(bits, r) for r in range(min(radius, bits) + 1))


def test_a_look_up_ends_with_the_distance_that_gives_enough():
    packed = np.array([[0], [1], [2], [3]], np.uint32)
    found = table.probe(table.build(packed, 2), packed[0], 2, enough=2)
    assert found.rows.tolist() == [0, 1, 2] and found.probes == 3


def test_masks_are_all_words_of_so_many_bits():
    for bits, distance in ((5, 0), (5, 3), (64, 1)):
        found = table.masks(bits, distance)
        assert len(set(found.tolist())) == math.comb(bits, distance)
        assert all(bin(int(mask)).count("1") == distance and int(mask) < 2**bits for mask in found)


def test_several_tables_find_the_union_each_row_at_its_least_distance():
    parts = [packed_from(drawn(40, 5, seed)) for seed in range(3)]
    tables = [table.build(part, 5) for part in parts]
    found = table.probe_tables(tables, [part[7] for part in parts], 1)
    every = [dict(zip(*table.probe(one, part[7], 1)[:2], strict=True)) for one, part in zip(tables, parts, strict=True)]
    expected = sorted((min(one[row] for one in every if row in one), row) for row in set().union(*every))
    assert list(zip(found.distance, found.rows, strict=True)) == expected and found.probes == 18


def test_occupancy_by_hand():
    codes = np.array([[7], [7], [1], [2]], np.uint32)
    expected = {"buckets": 3.0, "largest_bucket": 2.0, "bucket_of_a_row": 1.5, "entropy_bits": 1.5}
    assert table.occupancy(codes) == expected
    assert table.occupancy(codes[:2])["entropy_bits"] == 0
    assert table.bit_entropy(np.array([[1, 0], [1, 1]], bool)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: table.build(np.zeros((2, 3), np.uint32), 65), "1 to 64 bits, got 65 bits in shape"),
        (lambda: table.build(np.zeros((2, 2), np.uint32), 32), "got 32 bits in shape"),
        (lambda: table.probe(table.build(np.zeros((2, 1), np.uint32), 3), np.zeros(1, np.uint32), -1), "radius must"),
        (lambda: table.probe_tables([], [], 1), "0 tables and 0 codes"),
    ],
)
def test_what_has_no_table_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
