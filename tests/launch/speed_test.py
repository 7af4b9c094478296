"""The suite of whole workloads: every side computes the same, sides take turns, and what comes out is written down."""

import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore import train
from dlcore.stats import mixture_log_mass
from dlcore.tree import named_leaves
from launch.speed import dlcore_side, flax_net, flax_side, networks, turns

ROOT = Path(__file__).parents[2]


MOVED = {"flow": 0.005}
"""How far params are moved from their start, where not 0.05, by which a flow of 16 couplings explodes."""


def started(name, images=2):
    """The network, its params and state, and what the file of its start holds."""
    network = networks.NETWORKS[name]()
    batch = dlcore_side.batch_of(network, images)
    params, state = jax.jit(network.init)(jax.random.key(0), batch)
    rng = np.random.default_rng(1)  # also where params start at 0
    far = MOVED.get(name, 0.05)
    params = jax.tree.map(lambda x: x + far * jnp.asarray(rng.standard_normal(x.shape, np.float32)), params)
    leaves = named_leaves({"params": params, "state": state, "batch": batch})
    return network, params, state, batch, {path: np.asarray(leaf) for path, leaf in leaves}


def doubled(tree):
    """Float32 as float64: fifty layers, normalised over eight pixels, make of float32's rounding 3e-4 of the loss."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if x.dtype == np.float32 else x, tree)


def own(network, params, state, batch):
    """Every loss, and what inference gives."""
    options = {"key": jax.random.key(0), "train": True, "step": jnp.int32(0)}

    @jax.jit
    def computed(params, state, batch):
        found = [objective(params, state, batch, **options)[0] for _, objective in network.objectives.values()]
        return found, network.predict(params, state, batch)

    with jax.enable_x64(True):
        return computed(*doubled((params, state, batch)))


def same(theirs, ours):
    for found, wanted in zip(theirs[0], ours[0], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # An embedding of a time up to 1000 is float32 on every side, which shows in what the U-Net gives.
    np.testing.assert_allclose(theirs[1], ours[1], rtol=1e-6, atol=1e-5 * np.abs(ours[1]).max())


def test_peers_have_every_workload():
    assert set(flax_side.NETWORKS) == set(networks.NETWORKS)
    torch_side = pytest.importorskip("launch.speed.torch_side")
    assert set(torch_side.NETWORKS) == set(networks.NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", flax_side.NETWORKS)
def test_flax_computes_the_same(name):
    network, params, state, batch, arrays = started(name)
    flax = flax_side.NETWORKS[name]

    @jax.jit
    def computed(*given):
        return [loss(*given)[0] for loss in flax.losses.values()], flax.predict(*given)

    with jax.enable_x64(True):
        theirs = flax_side.variables(doubled(arrays))
        found = computed(theirs["params"], theirs["batch_stats"], doubled(batch))
    assert sum(x.size for x in jax.tree.leaves(theirs["params"])) == sum(x.size for x in jax.tree.leaves(params))
    same(found, own(network, params, state, batch))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "iwae", "gan"])
def test_flax_takes_the_same_steps(name):
    network, params, state, batch, arrays = started(name)
    update = dlcore_side.update_of(network)
    with jax.enable_x64(True):
        batch, theirs = doubled(batch), flax_side.variables(doubled(arrays))
        step, memory = flax_net.training(flax_side.NETWORKS[name].losses, theirs["params"])
        own_step, step = jax.jit(train.make_train_step(update)), jax.jit(step)
        ours = train.create(jax.random.key(0), lambda key: doubled((params, state)), update)
        there = theirs["params"], theirs["batch_stats"], memory
        for _ in range(2):
            ours, _ = own_step(ours, batch)
            there = step(*there, batch)
    leaves = named_leaves({"params": ours.params, "state": ours.state})
    wanted = flax_side.variables({path: np.asarray(leaf) for path, leaf in leaves})
    found = {"params": there[0], "batch_stats": there[1]}
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9), found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, flax in flax_side.NETWORKS.items() if flax.sample])
def test_flax_draws_the_same_images(name):
    network, params, state, _, arrays = started(name)
    theirs, key = flax_side.variables(arrays), jax.random.key(3)
    drawn = flax_side.NETWORKS[name].sample(theirs["params"], theirs["batch_stats"], key)
    wanted = jax.jit(network.sample)(params, state, key)
    np.testing.assert_allclose(drawn.reshape(wanted.shape), wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_torch_computes_the_same(name):
    torch_side = pytest.importorskip("launch.speed.torch_side")
    network, params, state, batch, arrays = started(name)
    torch_net = pytest.importorskip("launch.speed.torch_net")
    arrays = doubled(arrays)
    net = torch_net.Net(arrays)
    there = {k[6:]: torch_net.tensor(k, v) for k, v in arrays.items() if k.startswith("batch/")}
    losses, predict = torch_side.NETWORKS[name]
    net.train = False
    outputs = predict(net, there).detach()
    net.train = True
    found = [loss(net, there).item() for loss in losses.values()]
    assert sum(x.numel() for x in net.params.values()) == sum(x.size for x in jax.tree.leaves(params))
    same((found, outputs.permute(0, 2, 3, 1) if outputs.ndim == 4 else outputs), own(network, params, state, batch))


@pytest.mark.slow
def test_torch_draws_pixels_from_what_the_whole_network_says_of_them():
    torch = pytest.importorskip("torch")
    from launch.speed import torch_net, torch_pixelcnn, torch_pixelcnn_cached

    arrays = started("pixelcnn")[-1]
    net, image = torch_net.Net(arrays), torch_net.tensor("image", arrays["batch/image"])
    found = []

    def choose(numbers, r, c):
        found.append(numbers)
        return image[:, :, r, c]

    with torch.inference_mode():
        chosen = torch_pixelcnn_cached.pixel_by_pixel(net, 2, choose)
        whole = torch_pixelcnn.outputs(net, {"image": image})
    np.testing.assert_allclose(torch.stack(found, -1).unflatten(-1, (28, 28)), whole, atol=1e-5)
    np.testing.assert_allclose(chosen, image, atol=1e-6)


@pytest.mark.slow
def test_torch_inverts_its_flow():
    torch = pytest.importorskip("torch")
    from launch.speed import torch_flow, torch_net

    arrays = started("flow")[-1]
    net, image = torch_net.Net(arrays), torch_net.tensor("image", arrays["batch/image"])
    with torch.inference_mode():
        latents, _ = torch_flow.latent(net, image)
        np.testing.assert_allclose(torch_flow.inverse(net, latents), image, atol=1e-5)
        drawn = torch_flow.sample(net)
    assert drawn.shape == (16, 1, 32, 32) and drawn.isfinite().all()


def test_torch_draws_grey_levels_as_often_as_the_mixture_says():
    torch = pytest.importorskip("torch")
    from launch.speed import torch_pixelcnn

    numbers = torch.tensor([0.0, 1.0, -0.4, 0.8, -2.0, -1.0])
    levels = np.arange(256)
    told = [jnp.tile(jnp.asarray(part), (256, 1)) for part in np.split(numbers.numpy(), 3)]
    mass = np.exp(mixture_log_mass(jnp.asarray(levels), *told, 256))
    drawn = torch_pixelcnn.drawn(numbers.expand(20_000, -1), 0, 0).numpy() * 255
    below = (drawn <= levels).mean(0)
    assert np.abs(below - np.cumsum(mass)).max() < 0.02  # the 99.99th percentile is 0.0157


@pytest.mark.slow
def test_every_workload_has_shapes_that_fit():
    for name, make in networks.NETWORKS.items():
        network = make()
        batch = network.batch(np.random.default_rng(0), (2, *network.shape[1:]))
        params, state = jax.eval_shape(network.init, jax.random.key(0), batch)
        for only, objective in network.objectives.values():
            options = {"key": jax.random.key(0), "train": True, "step": jnp.int32(0)}
            loss, _ = jax.eval_shape(lambda p, s, b, f=objective, o=options: f(p, s, b, **o), params, state, batch)
            assert loss.shape == () and only, name
        jax.eval_shape(network.predict, params, state, batch)
        if network.sample and name != "pixelcnn":  # whose sampler is a program of its own, traced for long
            assert len(jax.tree.leaves(jax.eval_shape(network.sample, params, state, jax.random.key(0)))[0]) == 16


def test_medians_and_ratios_of_the_turns():
    facts = {"images": 8, "parameters": 5, "flops": 1, "product_flops": 4e9, "compile_seconds": 1, "ready_seconds": 2}
    taken = [
        {"dlcore": {"seconds": s, "cpu_seconds": 2 * s}, "torch": {"seconds": 3 * s * k, "cpu_seconds": s}}
        for s, k in ((1.0, 1), (2.0, 2), (4.0, 1))
    ]
    found = turns.row("cnn", "train", facts, facts | {"compile_seconds": 9}, taken)
    assert found["seconds"] == {"dlcore": 2.0, "torch": 12.0}
    assert found["ratios"]["torch"] == {"seconds": [3.0, 6.0, 3.0], "cpu_seconds": [0.5, 0.5, 0.5]}
    told = "\n".join(turns.lines(found | {"peak_bytes": {"dlcore": 2**20}}, roof=8e9))
    assert "4 images/s" in told and "25% of the product" in told and "compile 9.0 / 1.0 s" in told
    assert "3.00 × torch (3.00 to 6.00), by processor time 0.50" in told


def test_another_network_is_refused():
    class Fake:
        def __init__(self, name, **facts):
            self.name, self.facts = name, facts

    ours = Fake("dlcore", parameters=10, loss=2.0)
    turns.check("cnn", ours, [Fake("torch", parameters=10, loss=2.0001)])
    with pytest.raises(ValueError, match=r"cnn is another network in torch: loss 2\.1, and 2\.0 in dlcore"):
        turns.check("cnn", ours, [Fake("torch", parameters=10, loss=2.1)])
    with pytest.raises(ValueError, match="parameters 11"):
        turns.check("cnn", ours, [Fake("flax", parameters=11, loss=2.0)])


def bench(*flags):
    command = [sys.executable, "-m", "launch.bench", "--suite=standard", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, env=os.environ | QUICK)


QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_experimental_ynn_fusion_type=-reduce"}


@pytest.mark.slow
def test_the_command_writes_what_it_prints(tmp_path):
    done = bench(
        "--workloads=mlp", "--peer=flax,without", "--images=4", "--turns=2", "--seconds=0.1", f"--out={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "speed.json").read_text())
    assert [(row["workload"], row["what"]) for row in told["rows"]] == [("mlp", "infer"), ("mlp", "train")]
    assert len(told["rows"][1]["ratios"]["flax"]["seconds"]) == 2 and (tmp_path / "speed.png").stat().st_size > 1000
    for line in ("mlp          train", "× flax", "by processor time", "GFLOP/s"):
        assert line in done.stdout


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path):
    done = bench("--workloads=mpl", f"--out={tmp_path / 'x'}")
    assert done.returncode == 1 and "did you mean 'mlp'" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "x").exists()


def test_a_side_answers_line_by_line(monkeypatch, capsys):
    from launch.speed import side
    from launch.speed.workload import Workload

    done = []
    opened = Workload(4, 1.5, 7, train=done.append, infer=done.append)
    monkeypatch.setattr(dlcore_side, "open_workload", lambda *_: opened)
    monkeypatch.setattr(sys, "stdin", io.StringIO("train 0\n"))
    side.main("dlcore", "cnn", "nowhere.npz", "0")
    told = [json.loads(line.removeprefix("answer ")) for line in capsys.readouterr().out.splitlines()]
    assert told[0]["images"] == 4 and told[0]["does"] == ["infer", "train"] and told[0]["loss"] == 1.5
    assert set(told[1]) == {"seconds", "cpu_seconds"} and done == [1]
