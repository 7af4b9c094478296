"""Several processes, one computation: start-up, who writes, and agreement."""

import os
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def cluster(environment: Mapping[str, str]) -> str | None:
    """The kind of multi-process launch that the environment tells of: "slurm", "tpu", "gke" or None.

    A TPU pod names several workers; on GKE each pod of a multi-host slice has a worker id and the
    list of host names; SLURM counts tasks of the step.
    """
    workers = [name for name in environment.get("TPU_WORKER_HOSTNAMES", "").split(",") if name]
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return "slurm"
    if len(workers) > 1:
        return "gke" if "KUBERNETES_SERVICE_HOST" in environment else "tpu"
    if "JOB_COMPLETION_INDEX" in environment and environment.get("JAX_COORDINATOR_ADDRESS"):
        return "gke"
    return None


def start(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> None:
    """Join this process to the others, before any device is touched.

    Explicit arguments win; otherwise SLURM, a TPU pod or GKE is recognised by its environment, and
    a single process starts nothing. Raises `ValueError` for arguments that do not fit together.
    """
    explicit = (bool(coordinator), num_processes > 0, process_id >= 0)
    if any(explicit):
        if not all(explicit):
            raise ValueError("pass --coordinator=HOST:PORT, --num_processes and --process_id together, or none of them")
        if process_id >= num_processes:
            raise ValueError(
                f"process_id {process_id} is out of range for {num_processes} processes; use 0 to {num_processes - 1}"
            )
        if num_processes > 1:
            jax.distributed.initialize(coordinator, num_processes, process_id)
    elif cluster(os.environ):
        jax.distributed.initialize()


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` holds on any process; all of them must call, and all get the same answer."""
    if jax.process_count() == 1:
        return flag
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    devices = np.array([firsts[process] for process in sorted(firsts)])
    mesh = Mesh(devices, ("process",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("process"))
    flags = jax.make_array_from_process_local_data(sharding, np.array([flag]))
    everywhere = jax.jit(lambda x: x.any(), out_shardings=NamedSharding(mesh, PartitionSpec()))
    return bool(everywhere(flags))
