"""Methods side by side: every encoder gives packed codes of its own, and metrics have the method's name (20.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.retrieval import _comparison as comparison
from dlcore.retrieval import fit_incremental


@pytest.mark.slow
def test_every_method_codes_and_is_measured():
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int32)
    fitted = fit_incremental([x], 3)
    found = {}
    for name, tables in comparison.TABLES.items():
        encoders = comparison.encoders(name, fitted, jnp.asarray(x), 3, key=jax.random.key(0))
        assert len(encoders) == tables
        codes = [np.asarray(encode(x)) for encode in encoders]
        assert len({code.tobytes() for code in codes}) == tables, "tables differ"
        given = ([code[:10] for code in codes], [code[10:] for code in codes], labels[:10], labels[10:])
        found[name] = comparison.measure(*given, bits=3, k=4, radius=1)
        assert found[name]["look_up_probes"] == 4 * tables
    told = comparison.numbers({"trained": found["itq"], **found}, 4)
    assert told["precision_at_4_lsh"] == found["lsh"]["precision"] and told["map"] == told["map_itq"]
    assert told["look_up_found"] == found["itq"]["look_up_found"] and "curve" not in told


def test_components_are_needed_for_as_many_bits():
    assert comparison.possible(3, 3) == list(comparison.TABLES) and comparison.possible(4, 3) == ["lsh", "lsh_8"]
    fitted = fit_incremental([np.eye(3)], 1)
    with pytest.raises(ValueError, match="did you mean 'pca_sign'"):
        comparison.encoders("pca_sgn", fitted, jnp.eye(3), 1, key=jax.random.key(0))
