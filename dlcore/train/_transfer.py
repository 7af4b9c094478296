"""What was learnt for one task as the start of another (lecture 18).

    params, state = loaded("runs/classify-fashion_mnist-default")
    params, state = swapped(params, fresh_params, "head/**"), swapped(state, fresh_state, "head/**")
    probe = gradient_update(supervised(freeze_statistics(model), loss), tx, only="head/**")

Weights of PyTorch's definitions are read by `dlcore.interop.torch_weights.read`; rates and freezing by layer are
`dlcore.optim.layer_decay` and `unfreezing`. `only=` alone does not stop batch norms: their running statistics are kept
by `dlcore.nn.freeze_statistics`.
"""

from collections.abc import Callable
from pathlib import Path

from dlcore.train import export, session
from dlcore.types import Params, State


def loaded(path: str | Path, foreign: Callable[[Path], tuple[Params, State]] | None = None) -> tuple[Params, State]:
    """Params and state that evaluation uses of the last fit of a run folder, or of a file that `launch.export` wrote.

    Other `.safetensors` are read by `foreign(path)`, if it is given. Raises `ValueError` for a path that holds no run.
    """
    if foreign is not None and export.is_foreign(Path(path)):
        return foreign(Path(path))
    opened = session.open_run(Path(path), with_data=False)
    return opened.params, opened.state
