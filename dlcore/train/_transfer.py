"""What was learnt for one task as the start of another (lecture 18).

    params, state = loaded("runs/classify-fashion_mnist-default")
    params, state = swapped(params, fresh_params, "head/**"), swapped(state, fresh_state, "head/**")
    probe = gradient_update(supervised(freeze_statistics(model), loss), tx, only="head/**")

Weights of PyTorch's definitions are read by `dlcore.interop.torch_weights.read`; rates and freezing by layer are
`dlcore.optim.layer_decay` and `unfreezing`. `only=` alone does not stop batch norms: their running statistics are kept
by `dlcore.nn.freeze_statistics`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dlcore.train import export, session
from dlcore.tree import Pattern, matching, named_leaves
from dlcore.types import Params, State


def loaded(path: str | Path, foreign: Callable[[Path], tuple[Params, State]] | None = None) -> tuple[Params, State]:
    """Params and state that evaluation uses of the last fit of a run folder, or of a file that `launch.export` wrote.

    Other `.safetensors` are read by `foreign(path)`, if it is given. Raises `ValueError` for a path that holds no run.
    """
    if foreign is not None and export.is_foreign(Path(path)):
        return foreign(Path(path))
    opened = session.open_run(Path(path), with_data=False)
    return opened.params, opened.state


def swapped(trained: Mapping[str, Any], fresh: Mapping[str, Any], head: Pattern) -> dict[str, Any]:
    """A tree like `fresh` whose leaves come from `trained`, but for those that `head` names, which stay fresh.

    For params, and for the state of the same network; `head` need name none of a state. Raises one `ValueError` for all
    leaves that the trained network lacks, has beyond the head, or has in another shape.

    >>> swapped({"body": jnp.ones(2), "head": jnp.ones(3)}, {"body": jnp.zeros(2), "head": jnp.zeros(5)}, "head")
    {'body': Array([1., 1.], dtype=float32), 'head': Array([0., 0., 0., 0., 0.], dtype=float32)}
    """
    old, new = (dict(named_leaves(dict(tree))) for tree in (trained, fresh))
    own = matching(head, [*new, *(path for path in old if path not in new)], strict=False)
    wrong = [f"{path} is missing" for path in new if path not in own and path not in old]
    wrong += [f"{path} is left over" for path in old if path not in own and path not in new]
    wrong += [
        f"{path} is {list(jnp.shape(old[path]))}, wanted {list(jnp.shape(new[path]))}"
        for path in new
        if path not in own and path in old and jnp.shape(old[path]) != jnp.shape(new[path])
    ]
    if wrong:
        raise ValueError(
            f"the trained network does not fit in {len(wrong)} leaves: {'; '.join(wrong[:5])}; build the model that "
            f"was trained, or let head={head!r} name what differs"
        )
    return _filled(fresh, {path: new[path] if path in own else old[path] for path in new})


def _filled(tree: Mapping[str, Any], leaves: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    return {
        name: _filled(node, leaves, f"{above}{name}/") if isinstance(node, Mapping) else leaves[f"{above}{name}"]
        for name, node in tree.items()
    }
