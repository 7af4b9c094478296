"""What fits share: data of their own, and the evaluation of a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import Data, DataSpec, Split, in_memory
from dlcore.evaluation import classification_summary
from dlcore.nn import Dense
from dlcore.train import classified, map_data

SPEC = DataSpec("rows", (2,), None, 3, ("a", "b", "c"), (5, 0, 2), (0.0,), (1.0,))


def split(size):
    return in_memory({"point": np.arange(2.0 * size, dtype=np.float32).reshape(size, 2), "label": np.arange(size) % 3})


def test_every_split_is_mapped_in_order_and_an_empty_one_stays():
    data = Data(SPEC, split(5), Split(0, lambda rows: {}), split(2))
    found = map_data(lambda rows: {"point": 2 * rows["point"], "row": rows["row"]}, data)
    np.testing.assert_array_equal(found.train.arrays["point"], 2 * data.train.arrays["point"])
    np.testing.assert_array_equal(found.train.read(np.array([3]))["row"], [3])
    assert (found.train.size, found.validation.size, found.test.size) == (5, 0, 2) and found.spec == SPEC


def test_a_classifier_is_judged_by_marked_rows():
    model, x = Dense(3), jax.random.normal(jax.random.key(0), (6, 2))
    params, state = model.init(jax.random.key(1), x)
    labels, where = jnp.arange(6) % 3, jnp.arange(6) < 4
    found = classification_summary(
        classified(model)(params, state, {"image": x, "label": labels, "where": where}, jax.random.key(0))
    )
    log_p = np.asarray(jax.nn.log_softmax(x @ params["kernel"]))[:4]
    assert found["accuracy"] == pytest.approx((log_p.argmax(1) == labels[:4]).mean())
    assert found["nll_nats"] == pytest.approx(-log_p[np.arange(4), labels[:4]].mean(), rel=1e-5)
