"""Glow in PyTorch: the density of images, and samples by the inverse."""

import math

import torch
from torch.nn import functional

from launch.speed.torch_net import Net, Tensors, depth_to_space, space_to_depth
from launch.speed.workload import SAMPLES

BOUND = 2.0
"""Of the log-scales of couplings."""


def scales(net: Net) -> list[list[str]]:
    """The steps of every scale by their paths: `rest/` leads from one scale to the next."""
    steps = [path.removesuffix("/act_norm/bias") for path in net.params if path.endswith("/act_norm/bias")]
    found: dict[str, list[str]] = {}
    for at in sorted(steps, key=lambda at: (len(at), at)):
        found.setdefault(at.rpartition("step_")[0], []).append(at)
    return list(found.values())


def log_prob(net: Net, batch: Tensors) -> torch.Tensor:
    """log p(x) = log N(f(x); 0, I) + log|det J_f(x)| of every image, in nats."""
    latents, total = latent(net, batch["image"])
    for z in latents:
        total = total - 0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2, 3))
    return total


def latent(net: Net, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What leaves at every scale, half of the channels but at the last, and log|det J_f(x)| [b]."""
    left, total = [], 0.0
    *before, last = scales(net)
    for scale in (*before, last):
        x = space_to_depth(x)
        for at in scale:
            x, log_det = step(net, x, at)
            total = total + log_det
        x, out = (None, x) if scale is last else x.chunk(2, 1)
        left.append(out)
    return left, total


def negative_log_likelihood(net: Net, batch: Tensors) -> torch.Tensor:
    """Mean over the images."""
    return -log_prob(net, batch).mean()


def step(net: Net, x: torch.Tensor, at: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Actnorm, mixing of the channels and affine coupling; log|det J| [b]."""
    bias, log_scale = act_norm(net, at)
    x = mixed(net, (x + bias) * log_scale.exp(), at)
    kept, moved = x.chunk(2, 1)
    log_slope, shift = coupling(net, kept, at)
    sites = x.shape[2] * x.shape[3]
    log_det = sites * (log_scale.sum() + net.params[f"{at}/mix/log_scale"].sum()) + log_slope.sum((1, 2, 3))
    return torch.cat([kept, torch.addcmul(shift, moved, log_slope.exp())], 1), log_det


def unstep(net: Net, z: torch.Tensor, at: str) -> torch.Tensor:
    """The inverse of `step`."""
    kept, moved = z.chunk(2, 1)
    log_slope, shift = coupling(net, kept, at)
    z = torch.cat([kept, (moved - shift) * (-log_slope).exp()], 1)
    bias, log_scale = act_norm(net, at)
    return mixed(net, z, at, back=True) * (-log_scale).exp() - bias


def act_norm(net: Net, at: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Bias and log-scale, [c, 1, 1]."""
    bias, log_scale = (net.params[f"{at}/act_norm/{name}"][:, None, None] for name in ("bias", "log_scale"))
    return bias, log_scale


def mixer(net: Net, at: str) -> torch.Tensor:
    """W = P L (U + diag(s)), [c, c]."""
    lower, upper, log_scale = (net.params[f"{at}/mix/{name}"] for name in ("lower", "upper", "log_scale"))
    left = lower.tril(-1) + torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    right = upper.triu(1) + (net.state[f"{at}/mix/signs"] * log_scale.exp()).diag()
    return net.state[f"{at}/mix/permutation"] @ left @ right


def mixed(net: Net, x: torch.Tensor, at: str, *, back: bool = False) -> torch.Tensor:
    """A 1×1 convolution by W, or its inverse: in full precision, by which a density stands and falls."""
    with torch.autocast(x.device.type, enabled=False):
        kernel = torch.linalg.inv(mixer(net, at)) if back else mixer(net, at)
        return functional.conv2d(x, kernel[..., None, None])


def coupling(net: Net, x: torch.Tensor, at: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounded log-scales and shifts of the channels that move, given those that stay."""
    h = net.conv(x, f"{at}/coupling/stem") + net.position(f"{at}/coupling/position")
    h = h + net.conv(functional.relu(h), f"{at}/coupling/block_0/body/conv_0")
    raw, shift = net.conv(functional.relu(h), f"{at}/coupling/head").to(x.dtype).chunk(2, 1)
    return BOUND * (raw / BOUND).tanh(), shift


def inverse(net: Net, latents: list[torch.Tensor]) -> torch.Tensor:
    """Images of latents, of which every scale has its own."""
    x = None
    for scale, z in zip(reversed(scales(net)), reversed(latents), strict=True):
        x = z if x is None else torch.cat([x, z], 1)
        for at in reversed(scale):
            x = unstep(net, x, at)
        x = depth_to_space(x)
    return x


def sample(net: Net) -> torch.Tensor:
    """Images of normal latents."""
    *before, last = (latent_shape(net, scale[0]) for scale in scales(net))
    shapes = [(c // 2, h, w) for c, h, w in before] + [last]
    return inverse(net, [torch.randn(SAMPLES, *shape) for shape in shapes])


def latent_shape(net: Net, at: str) -> tuple[int, int, int]:
    """Channels, rows and columns at a step."""
    rows, columns, _ = net.params[f"{at}/coupling/position/bias"].shape
    return len(net.params[f"{at}/act_norm/bias"]), rows, columns
