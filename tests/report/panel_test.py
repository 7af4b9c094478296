"""Panels: whatever a figure is drawn from comes back equal from its files, and nothing else is kept or called."""

import collections
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

from dlcore.report import panel

ROOT = Path(__file__).parents[2]
Curve = collections.namedtuple("Curve", ["x", "y", "name"])
RNG = np.random.default_rng(0)


def kept(folder, *arguments, **options):
    panel.save({"one": panel.panel("figures.curves", *arguments, **options)}, folder)
    found = panel.load(folder)["one"]
    assert found.function == "figures.curves"
    return found.arguments, dict(found.options)


def equal(a, b):
    """The same values in the same kinds of containers; arrays have the same dtype."""
    if isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray) and (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    elif isinstance(b, dict):
        assert list(a) == list(b) and [type(k) for k in a] == [type(k) for k in b]
        for key in b:
            equal(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert isinstance(a, type(b)) if type(b) in (list, tuple) else a._fields == b._fields
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            equal(one, other)
    else:
        assert type(a) is type(b) and (a == b or (a != a and b != b))


DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32"]


@pytest.mark.parametrize("dtype", [*DTYPES, "float64", "complex64", "<U5", "S3", "M8[s]", "m8[ms]", "i4,f8", ">f4"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_of_every_dtype(dtype, shape, tmp_path):
    numbers = RNG.integers(0, 100, shape)
    array = np.zeros(shape, dtype) if "," in dtype else np.asarray(numbers).astype(dtype)
    equal(kept(tmp_path, array, array=array), ((array,), {"array": array}))


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_arrays_of_dtypes_that_are_not_numpys_keep_their_values(dtype, tmp_path):
    array = jnp.array([[0.1, -2.5, jnp.inf]], dtype)
    (found,), _ = kept(tmp_path, array)
    equal(found, np.asarray(array).astype(np.float32))


def test_arrays_that_lie_otherwise_in_memory(tmp_path):
    array = RNG.normal(size=(4, 6))
    given = [array.T, array[::2, ::-1], np.broadcast_to(array[0], (3, 6)), np.asfortranarray(array)]
    equal(kept(tmp_path, given)[0], ([np.array(x) for x in given],))


def test_arrays_of_jax_come_back_as_numpys(tmp_path):
    (vector, scalar), _ = kept(tmp_path, jnp.arange(3), jnp.float32(2.5))
    equal([vector, scalar], [np.arange(3, dtype=np.int32), np.full((), 2.5, np.float32)])


VALUES = {
    "None": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**70],
    "floats": [0.1, -0.0, 1e-320, float("inf"), -float("inf"), float("nan")],
    "texts": ["", "µ → ½", 'quoted " \\ \n', "\x00"],
    "surrogates": ["caf\udce9.png", "\ud83d\ude00", "\ud83d"],
    "empty": [[], (), {}],
    "nested": {"a": {1: [2, (3.5, None)], 2.5: "x", None: {}, False: ()}},
    "keys like marks": [{"array": "0"}, {"items": []}, {"fields": {}}, {"tuple": [1]}],
    "pairs as keys": {(0, 1): 2, ((), "x"): 3},
    "named tuple": Curve([1, 2], (3, 4), None),
    "named tuples inside": {"curves": [Curve(1, 2, "a"), (Curve((), {}, Curve(1, 2, 3)),)]},
}


@pytest.mark.parametrize("name", VALUES)
def test_values_and_collections(name, tmp_path):
    value = VALUES[name]
    equal(kept(tmp_path, value, value, option=value), ((value, value), {"option": value}))


def test_a_named_tuple_of_arrays_has_its_fields(tmp_path):
    curve = Curve(np.arange(3), [np.ones(2), {"k": np.zeros((2, 2), np.uint8)}], "loss")
    (found,), _ = kept(tmp_path, curve)
    equal(found, curve)
    equal(found.x, np.arange(3))
    assert found.name == "loss"


def test_scalars_of_numpy_and_ranges_come_back_plain(tmp_path):
    given = [np.float32(0.1), np.float64(0.1), np.int64(3), np.uint8(255), np.bool_(True), np.str_("a"), range(3)]
    expected = [float(np.float32(0.1)), 0.1, 3, 255, True, "a", [0, 1, 2]]
    equal(kept(tmp_path, given)[0], (expected,))
    equal(kept(tmp_path, {np.int64(3): 1, np.float32(0.5): 2})[0], ({3: 1, 0.5: 2},))
    equal(kept(tmp_path, np.complex64(1j))[0], (np.array(1j, np.complex64),))


TREES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=4),
        arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, max_side=3)),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.floats(allow_nan=False), inner, max_size=3)
        | st.builds(Curve, inner, inner, inner)
    ),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=40)
@given(value=TREES)
def test_any_collection_comes_back_equal(tmp_path_factory, value):
    equal(kept(tmp_path_factory.mktemp("panels"), value)[0], (value,))


def test_several_panels_keep_apart_and_in_order(tmp_path):
    panels = {f"{i}/{name}": panel.panel(f"figures.f{i}", np.full(i, i)) for i, name in enumerate("cab")}
    panel.save(panels, tmp_path)
    found = panel.load(tmp_path)
    assert list(found) == list(panels)
    for i, one in enumerate(found.values()):
        equal(one.arguments, (np.full(i, i),))
        assert one.function == f"figures.f{i}"


def test_a_folder_without_panels_has_none(tmp_path):
    assert panel.load(tmp_path) == {} == panel.load(tmp_path / "nowhere")
    panel.save({}, tmp_path / "deep" / "down")
    assert panel.load(tmp_path / "deep" / "down") == {}


REFUSED = {
    "a function": lambda x: x,
    "an object": object(),
    "an object array": np.array([None, "a"]),
    "ragged": np.array([[1], [2, 3]], object),
    "objects in fields": np.zeros(2, [("a", "i4"), ("b", "O")]),
    "inside": {"a": [np.array([{}])]},
    "a set": {1, 2},
    "bytes": b"x",
    "complex": 1j,
    "a key": jax.random.key(0),
    "a path": Path("x"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_and_leaves_what_was_there(name, tmp_path):
    panel.save({"old": panel.panel("figures.curves", 1)}, tmp_path)
    for arguments, options in (((REFUSED[name],), {}), ((), {"option": REFUSED[name]})):
        with pytest.raises(TypeError):
            panel.save({"new": panel.panel("figures.curves", *arguments, **options)}, tmp_path)
    assert list(panel.load(tmp_path)) == ["old"]


@pytest.mark.parametrize("where", ["arrays", "text"])
def test_files_cut_short_are_no_panels(where, tmp_path, monkeypatch):
    one = {"one": panel.panel("figures.curves", np.arange(5))}
    panel.save(one, tmp_path)

    def cut(target, *args, **kwargs):
        Path(target).write_bytes(b"PK")
        raise OSError("no space left on device")

    if where == "arrays":
        monkeypatch.setattr(np, "savez_compressed", cut)
    else:
        monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(OSError, match="no space"):
        panel.save(one, tmp_path)
    assert not (tmp_path / "panels.json").exists() and panel.load(tmp_path) == {}
    monkeypatch.undo()
    panel.save(one, tmp_path)
    equal(panel.load(tmp_path)["one"].arguments, (np.arange(5),))


def test_a_panel_is_drawn_from_its_files_alone(tmp_path):
    rows = [{"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.0, "validation/loss": None}]
    panel.save({"curves": panel.panel("figures.curves", rows)}, tmp_path)
    figure = panel.draw(panel.load(tmp_path)["curves"])
    assert isinstance(figure, Figure)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [2, 1])


NO_FIGURES = [
    "figures.nothing",
    "nothing.curves",
    "panel._array",
    "_figures.curves",
    "figures.np",
    "figures.Figure",
    "figures.BLUE",
    "panel.importlib",
    "os.system",
    "figures",
    "figures.",
    ".curves",
    "figures.curves.__call__",
    "..train.loop.fit",
    "figures.curves\n",
    "",
]


@pytest.mark.parametrize("name", NO_FIGURES)
def test_only_public_functions_of_the_room_are_drawn(name):
    with pytest.raises(ValueError, match=rf"^{re.escape(repr(name))} names no figure; write file.function"):
        panel.draw(panel.panel(name))


def test_every_panel_that_is_made_names_a_figure():
    text = "\n".join(p.read_text(encoding="utf-8") for d in ("experiments", "dlcore") for p in (ROOT / d).rglob("*.py"))
    names = set(re.findall(r"\bpanel\(\s*\"([^\"]+)\"", text))
    assert len(names) > 20 and all(callable(panel._named(name)) for name in names)


def test_the_text_is_json(tmp_path):
    panel.save({"one": panel.panel("figures.curves", (1, np.ones(2)))}, tmp_path)
    found = json.loads((tmp_path / "panels.json").read_bytes())
    arguments = [{"tuple": [1, {"array": "0"}]}]
    assert found == {"one": {"function": "figures.curves", "arguments": arguments, "options": {}}}
