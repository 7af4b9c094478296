"""Networks that stand side by side are what each would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.nn import Dense
from dlcore.train import side_by_side

NAMES = ("wide", "narrow")


@pytest.fixture(scope="module")
def trained():
    networks = side_by_side({name: Dense(3) for name in NAMES})
    x = jax.random.normal(jax.random.key(0), (6, 2))
    params, state = networks.model.init(jax.random.key(1), x)
    return networks, params, state, {"x": x, "label": jnp.arange(6) % 3, "where": jnp.arange(6) < 4}


def alone(params, name, batch):
    """Log-probabilities of one network, in float64."""
    logits = np.asarray(batch["x"], np.float64) @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_each_is_judged_by_what_it_says_of_marked_rows(trained):
    networks, params, state, batch = trained
    sums = networks.evaluate(softmax_cross_entropy)(params, state, batch, jax.random.key(0))
    found, labels = networks.summary(sums), np.asarray(batch["label"])[:4]
    nats = []
    for name in NAMES:
        log_p = alone(params, name, batch)[:4]
        nats.append(-log_p[np.arange(4), labels].mean())
        assert found[f"nll_nats_{name}"] == pytest.approx(nats[-1], rel=1e-5)
        assert found[f"accuracy_{name}"] == pytest.approx((log_p.argmax(1) == labels).mean())
    assert found["nll_nats"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert found["accuracy_wide"] != found["accuracy_narrow"], "the two differ, so that neither stands for the other"


def test_the_summed_loss_gives_each_its_own_gradient(trained):
    networks, params, state, batch = trained
    objective = supervised(networks.model, networks.summed(softmax_cross_entropy), inputs="x")
    batch = {name: batch[name] for name in ("x", "label")}
    found = jax.grad(lambda p: objective(p, state, batch, key=None, train=True)[0])(params)
    for name in NAMES:
        wrong = np.exp(alone(params, name, batch)) - np.eye(3)[np.asarray(batch["label"])]
        np.testing.assert_allclose(found[name]["bias"], wrong.mean(0), rtol=1e-4, atol=1e-6)
