"""The workloads in PyTorch as it is used well on a GPU: autocast, channels last, TF32, `torch.compile`.

Networks and losses are those of `torch_side`; they start from the file that dlcore's side wrote.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from launch.speed.clock import answer, timed
from launch.speed.gpu_task import Task, read
from launch.speed.torch_net import Net, Tensors, tensor
from launch.speed.torch_side import NETWORKS
from launch.speed.workload import LEARNING_RATE

Loss = Callable[[Net, Tensors], torch.Tensor]


def training(task: Task) -> Iterator[Mapping[str, Any]]:
    """Rates eager and compiled, of a batch of `task.images`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    yield {"torch": torch.__version__, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    with np.load(task.weights) as file:
        arrays = dict(file)
    yield {"parameters": sum(v.size for k, v in arrays.items() if k.startswith("params/"))}
    for way in ("eager", "compiled"):
        began = time.monotonic()
        steps = stepper(task, arrays, device, torch.compile if way == "compiled" else lambda loss: loss)
        steps(1)
        yield {f"{way}_first_step_seconds": time.monotonic() - began, "first_step": True}
        steps(3)
        yield {f"{way}_seconds": timed(steps, task.seconds)["seconds"]}


def stepper(
    task: Task, arrays: Mapping[str, np.ndarray], device: str, compiled: Callable[[Loss], Loss]
) -> Callable[[int], None]:
    """A function that takes so many training steps and waits for them."""
    net = Net(dict(arrays))
    net.params = {k: v.detach().to(device).requires_grad_() for k, v in net.params.items()}
    net.state = {k: v.to(device) for k, v in net.state.items()}
    batch = {k[6:]: tensor(k, repeated(v, task.images)).to(device) for k, v in arrays.items() if k.startswith("batch/")}
    updates = []
    for start, loss in NETWORKS[task.workload][0].items():
        params = [v for k, v in net.params.items() if k.startswith(start)]
        updates.append((torch.optim.Adam(params, LEARNING_RATE, fused=True), params, compiled(loss)))

    def steps(count: int) -> None:
        for _ in range(count):
            for optimiser, params, loss in updates:
                with torch.autocast(device, torch.bfloat16, enabled=task.dtype == "bfloat16"):
                    value = loss(net, batch)
                for param, gradient in zip(params, torch.autograd.grad(value, params), strict=True):
                    param.grad = gradient
                optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return steps


def repeated(rows: np.ndarray, images: int) -> np.ndarray:
    """So many rows: what is in them does not change how long they take."""
    return np.resize(rows, (images, *rows.shape[1:]))


def main(text: str) -> None:
    """Measure the task of this text; every fact is a line."""
    for told in training(read(text)):
        answer(told)


if __name__ == "__main__":
    main(sys.argv[1])
