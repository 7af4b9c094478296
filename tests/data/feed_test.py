"""Feeding: restarts at any step, any number of processes and workers, and the evaluation's padding."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from dlcore.data import Pipeline, Resident, Split, Streamed, choose, evaluation_batches, in_memory, load
from dlcore.data._pipeline import share

ROWS = {"image": np.random.default_rng(0).integers(0, 256, (29, 3, 2, 1), dtype=np.uint8), "label": np.arange(29)}
SPLIT = in_memory(ROWS)
KINDS = ["resident", "grain"]


def batches(feed, count):
    fed = feed.next(count)
    fetch = jax.jit(feed.fetch)
    steps = [jax.tree.map(lambda x, i=i: x[i], fed) for i in range(count)]
    return [jax.tree.map(np.asarray, fetch(feed.resident, step)) for step in steps]


def rows_by_hand(seed, steps, batch):
    order = [np.random.Generator(np.random.Philox([seed, epoch])).permutation(29) for epoch in range(steps)]
    per = 29 // batch
    return [order[step // per][step % per * batch : step % per * batch + batch] for step in range(steps)]


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_labels_stay_together_over_epochs(kind):
    feed = choose(SPLIT, seed=7, batch_size=8, kind=kind)
    assert isinstance(feed, Pipeline)
    for batch, rows in zip(batches(feed, 8), rows_by_hand(7, 8, 8), strict=True):
        np.testing.assert_array_equal(batch["label"], rows)
        np.testing.assert_array_equal(batch["image"], ROWS["image"][rows])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 1, 2, 3, 7])
def test_a_restart_anywhere_goes_on_with_the_next_batch(kind, start):
    """A position goes through JSON; 3 steps are one epoch of 8 out of 29."""
    feed = choose(SPLIT, seed=7, batch_size=8, kind=kind)
    if start:
        feed.next(start)
    position = json.loads(json.dumps(feed.position()))
    other = choose(SPLIT, seed=7, batch_size=8, kind=kind)
    other.seek(position)
    found = [batch["label"] for batch in batches(other, 5)]
    np.testing.assert_array_equal(found, rows_by_hand(7, start + 5, 8)[start:])
    other.seek(position)
    np.testing.assert_array_equal([batch["label"] for batch in batches(other, 5)], found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_parts_of_the_processes_make_up_the_global_batch(kind, count):
    parts = [choose(SPLIT, seed=7, batch_size=8, kind=kind, process=(i, count)) for i in range(count)]
    found = [[batch["label"] for batch in batches(part, 7)] for part in parts]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), rows_by_hand(7, 7, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_dispatches_of_any_length_give_the_same_steps(kind):
    one, many = (choose(SPLIT, seed=7, batch_size=8, kind=kind) for _ in range(2))
    single = [batches(one, 1)[0]["label"] for _ in range(6)]
    np.testing.assert_array_equal(single, [b["label"] for k in (4, 2) for b in batches(many, k)])


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_differ_and_example_tells_the_shapes(kind):
    feeds = [choose(SPLIT, seed=seed, batch_size=8, kind=kind) for seed in (0, 1)]
    assert (batches(feeds[0], 1)[0]["label"] != batches(feeds[1], 1)[0]["label"]).any()
    fed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), feeds[0].next(1))
    assert fed == feeds[0].example()


WORKERS = """
import sys
import numpy as np
from absl import flags
from dlcore.data import choose, in_memory

if __name__ == "__main__":
    flags.FLAGS(["test"])
    split = in_memory({"label": np.arange(29)})
    feed, other = (choose(split, seed=7, batch_size=8, kind="grain", workers=2) for _ in range(2))
    print(feed.next(3)["label"].tolist())
    other.seek(feed.position())
    print(other.next(4)["label"].tolist())
"""


@pytest.mark.slow
def test_worker_processes_keep_order_and_position():
    """In a process of its own: what the run-time type checker wraps cannot be sent to workers."""
    done = subprocess.run([sys.executable, "-c", WORKERS], capture_output=True, text=True, timeout=120)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(printed) == 2, done.stderr
    np.testing.assert_array_equal(np.concatenate(printed), rows_by_hand(7, 7, 8))


def test_choice(monkeypatch):
    lazy = Split(SPLIT.size, SPLIT.read)
    assert isinstance(choose(SPLIT, seed=0, batch_size=8), Resident)
    assert isinstance(choose(lazy, seed=0, batch_size=8), Streamed)
    with pytest.raises(ValueError, match="not held in memory; use the grain pipeline"):
        choose(lazy, seed=0, batch_size=8, kind="resident")
    monkeypatch.setattr("dlcore.data._pipeline.RESIDENT_BYTES", 100)
    assert isinstance(choose(SPLIT, seed=0, batch_size=8), Streamed)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [12, 24, 36])
def test_evaluation_on_any_number_of_processes(batch, count):
    parts = [list(evaluation_batches(SPLIT, batch_size=batch, process=(i, count))) for i in range(count)]
    assert {len(part) for part in parts} == {-(-29 // batch)}, "every process takes part in every step"
    for step in zip(*parts, strict=True):
        assert all(b["image"].shape == (batch // count, 3, 2, 1) and b["where"].dtype == bool for b in step)
    real = np.concatenate([b["image"][b["where"]] for step in zip(*parts, strict=True) for b in step])
    np.testing.assert_array_equal(real, ROWS["image"])


def test_a_mean_over_evaluation_batches_is_the_mean_over_the_test_split():
    test = load("digits").test
    total = count = 0
    for batch in evaluation_batches(test, batch_size=100):
        total += batch["image"][batch["where"]].sum(dtype=np.int64)
        count += batch["where"].sum()
    assert count == 360 and total == test.arrays["image"].sum(dtype=np.int64)


def test_errors():
    for batch in (0, -8):
        with pytest.raises(ValueError, match=f"evaluation batch must be at least 1, got {batch}"):
            list(evaluation_batches(SPLIT, batch_size=batch))
    with pytest.raises(ValueError, match="batch 9 is not divisible by 2 processes; use a multiple of 2"):
        share(9, (0, 2))
    assert list(evaluation_batches(in_memory({"label": np.zeros(0, np.int32)}), batch_size=4)) == []
