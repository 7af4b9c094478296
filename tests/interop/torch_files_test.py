"""Files of weights: every float type is read exactly, anything else is refused with the file and what to do."""

import json
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from network_table import TINY
from safetensors.numpy import save_file

from dlcore.interop import _torch_inputs as torch_inputs
from dlcore.interop.torch_weights import from_torch, read, to_torch, write
from dlcore.tensor_files import load

FLOATS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip
OTHERS = {"I8": np.int8, "U8": np.uint8, "I64": np.int64, "BOOL": np.bool_, "C64": np.complex64, "I32": np.int32}
NET = TINY["resnet"]


def by_hand(path, tensors):
    """The file format, written out: length of the header, header, bytes."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture(scope="module")
def like():
    images = jax.ShapeDtypeStruct((2, NET.pixels, NET.pixels, 3), jnp.float32)
    return jax.eval_shape(NET.model.init, jax.random.key(0), images)


@pytest.fixture(scope="module")
def tensors(like):
    rng = np.random.default_rng(0)
    full = jax.tree.map(lambda x: rng.uniform(0.1, 2, x.shape).astype(np.float32), like)
    return to_torch(NET.names, *full)


@pytest.mark.parametrize("kind", FLOATS)
def test_every_float_type_is_read_exactly(kind, like, tensors, tmp_path):
    dtype = np.dtype(FLOATS[kind])
    narrow = {name: x.astype(dtype) for name, x in tensors.items() if x.ndim}
    path = by_hand(tmp_path / "net.safetensors", {n: (kind, list(x.shape), x.tobytes()) for n, x in narrow.items()})
    for name, x in load(path).items():
        assert x.dtype == dtype and x.tobytes() == narrow[name].tobytes()
    again = to_torch(NET.names, *read(path, NET.names, *like))
    for name, x in narrow.items():
        np.testing.assert_array_equal(again[name], np.asarray(x, np.float32))


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_float_is_not_read_as_one(kind, like, tensors, tmp_path):
    x = tensors["layer1.0.conv1.weight"].astype(OTHERS[kind])
    wrong = tensors | {"layer1.0.conv1.weight": x}
    with pytest.raises(ValueError, match=rf"dtype of layer1.0.conv1.weight: {x.dtype}, expected a float"):
        from_torch(wrong, NET.names, *like)
    path = tmp_path / "net.safetensors"
    by_hand(path, {"a": (kind, [*x.shape], x.tobytes()), "none": ("F32", [0, 3], b"")})
    found = load(path)
    np.testing.assert_array_equal(found["a"], x)
    assert found["none"].shape == (0, 3)
    with pytest.raises(ValueError, match=r"net.safetensors: these weights are not this network's"):
        read(path, NET.names, *like)


@pytest.mark.parametrize("counter", [np.int64(7), np.float32(7), np.zeros(3, np.int8)])
def test_counters_of_any_type_are_left_alone(counter, like, tensors):
    names = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert names
    from_torch(tensors | dict.fromkeys(names, np.asarray(counter)), NET.names, *like)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102530333\n"
WRONG = {
    "lfs": (POINTER, "git lfs pull"),
    "archive": (b"PK\x03\x04" + bytes(90), "safetensors.torch.save_file"),
    "pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(90), "safetensors.torch.save_file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(90), "unpack"),
    "page": (b"<!DOCTYPE html><html><head><title>Sign in", "web page"),
    "index": (b'{"weight_map": {"fc.weight": "model-00001-of-00002.safetensors"}}', "several files"),
    "text": (b"404: Not Found", "no whole"),
    "empty": (b"", "no whole"),
    "short": (b"\x08\x00\x00", "no whole"),
    "zeros": (bytes(200), "no whole"),
    "header": (struct.pack("<Q", 9) + b"not json!", "no whole"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_files_are_refused_by_name_with_what_to_do(name, tmp_path, like):
    content, advice = WRONG[name]
    path = tmp_path / "weights of a net.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=advice) as error:
        read(path, NET.names, *like)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("left", [4, 8, 60, 3000, -1])
def test_files_that_are_cut_short_or_go_on_are_refused(left, like, tensors, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match="fetch it again") as error:
        read(path, NET.names, *like)
    assert str(path) in str(error.value)
    save_file(tensors, path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match="fetch it again"):
        load(path)


def test_missing_files_and_folders_are_refused_by_name(tmp_path, like):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match="cannot be read") as error:
            read(path, NET.names, *like)
        assert str(path) in str(error.value)


def test_types_that_numpy_cannot_hold_are_refused_by_name(tmp_path):
    path = by_hand(tmp_path / "net.safetensors", {"a.scale": ("F8_E8M0", [2], b"\x00\x01")})
    with pytest.raises(ValueError, match=r"net.safetensors: a.scale is of type F8_E8M0"):
        load(path)


def test_values_beyond_the_range_of_the_network_are_refused(like, tensors, tmp_path):
    wide = tensors | {"fc.weight": tensors["fc.weight"].astype(np.float64)}
    from_torch(wide, NET.names, *like)
    wide["fc.weight"][0, 0] = 1e300
    with pytest.raises(ValueError, match=r"fc.weight holds values beyond the range of float32"):
        from_torch(wide, NET.names, *like)
    wide["fc.weight"][0, 0] = np.inf
    from_torch(wide, NET.names, *like)


def test_a_file_of_another_network_is_named(like, tensors, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(tensors | {"fc.weight": np.zeros((1000, 6), np.float32)}, path)
    with pytest.raises(ValueError, match=r"(?s)net.safetensors: .*shape of fc.weight: \(1000, 6\), expected \(3, 6\)"):
        read(path, NET.names, *like)


def test_narrow_params_are_written_and_read_again(like, tmp_path):
    rng = np.random.default_rng(0)
    narrow = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.bfloat16), like)
    write(tmp_path / "net.safetensors", NET.names, *narrow)
    again = read(tmp_path / "net.safetensors", NET.names, *narrow)
    jax.tree.map(np.testing.assert_array_equal, again, narrow)


def test_leaves_that_pytorch_does_not_have_are_refused(like):
    params, state = jax.tree.map(lambda x: jnp.zeros(x.shape), like)
    strange = params | {"head": params["head"] | {"u": jnp.zeros(3)}}
    with pytest.raises(ValueError, match="no place for 'u'"):
        to_torch(NET.names, strange, state)


def test_googlenet_inputs_are_pixels_from_minus_one_to_one():
    pixels = np.random.default_rng(0).uniform(size=(2, 4, 4, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    found = torch_inputs.googlenet_inputs(jnp.asarray((pixels - mean) / std, jnp.float32))
    np.testing.assert_allclose(found, 2 * pixels - 1, atol=1e-6)
