"""The type checker of this suite checks what it should, whichever closure is called."""

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError, config
from typecheck import CALLS, MARKS, checked, kept

import dlcore


def scaled(factor, hint=float):
    @checked
    def multiply(x: Float[Array, "b n"], y: Float[Array, "b"], power: hint = 1.0) -> Float[Array, "b"]:
        if power:
            return x.sum(1) * y * factor
        return multiply(x, y) * scaled(10)(x, y)

    return multiply


X, Y = jnp.ones((2, 3)), jnp.ones(2)


def test_closures_of_one_def_keep_what_is_theirs():
    two, three = scaled(2), scaled(3)
    assert [float(f(X, Y)[0]) for f in (two, three, two)] == [6, 9, 6]
    assert float(two(X, Y, 0)[0]) == 6 * 30, "and while they call each other"
    assert two.__wrapped__(X, 1)[0] == 6 and two.__name__ == "multiply"


def test_arguments_and_results_are_checked_each_time():
    multiply = scaled(2)
    for _ in range(2):
        with pytest.raises(TypeCheckError, match="parameter 'y'"):
            multiply(X, jnp.ones(3))
        with pytest.raises(TypeCheckError, match="return value"):
            scaled(jnp.ones((4, 1)))(X, Y)
    with pytest.raises(TypeCheckError, match="parameter 'power'"):
        multiply(X, Y, "high")
    assert scaled(2, hint=str)(X, Y, "high")[0] == 6, "another annotation is another check"
    assert CALLS.stack == []


def test_it_can_be_switched_off():
    config.update("jaxtyping_disable", True)
    try:
        assert scaled(2)(X, 1).shape == (2,)
    finally:
        config.update("jaxtyping_disable", False)


def test_dlcore_is_checked():
    with pytest.raises(TypeCheckError, match=r"Dense\.<locals>\.apply"):
        dlcore.nn.Dense(3).apply({"kernel": 3}, {}, 5)
    with pytest.raises(TypeCheckError, match="batch_size"):
        dlcore.train.LoopConfig(batch_size="many")


SOURCE = b"def half(count: int) -> int:\n    return count // 2\n"


def run(source, folder):
    names = dict(MARKS)
    exec(kept("half.py", source, folder), names)
    return names["half"]


def test_marked_code_is_kept_and_still_checks(tmp_path, monkeypatch):
    assert run(SOURCE, tmp_path)(4) == 2
    (place,) = tmp_path.iterdir()
    monkeypatch.setattr("typecheck._Marked", None)  # from here on, nothing can be marked
    with pytest.raises(TypeCheckError, match="count"):
        run(SOURCE, tmp_path)("four")
    monkeypatch.undo()
    assert run(SOURCE.replace(b"2", b"3"), tmp_path)(6) == 2, "an edited file is marked anew"
    assert run(SOURCE, tmp_path)(4) == 2 and len(list(tmp_path.iterdir())) == 2
    place.write_bytes(place.read_bytes()[:40])
    assert run(SOURCE, tmp_path)(4) == 2, "what is cut off is made again"
    assert run(SOURCE, place / "folder")(4) == 2, "and what cannot be kept runs as well"


def test_many_that_keep_at_once_leave_one_whole_file(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: run(SOURCE, tmp_path)(4), range(64)))
    assert found == [2] * 64 and len(list(tmp_path.iterdir())) == 1
