"""Decides which accelerator a launch is placed on, and why, from the known GPUs. Pure.

| requested | an earlier launch got no GPU | a GPU is free, or the pool grows | placed on                |
|-----------|------------------------------|----------------------------------|--------------------------|
| cpu       |                              |                                  | the CPU                  |
| gpu       |                              |                                  | a GPU, with no time limit|
| auto      | yes                          |                                  | the CPU                  |
|           | no                           | yes                              | a GPU                    |
|           | no                           | no                               | the CPU                  |
"""

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_CPU, ACCELERATOR_GPU
from services.controller.core.launcher import Gpus, Placement

LOCAL_REASON = "A process on this machine, which uses a GPU if it finds one"


class Placer:
    """Places launches one after the other; each launch on a GPU leaves one fewer for the next."""

    def __init__(self, gpus: Gpus | None) -> None:
        self._gpus = gpus
        self._free = sum(gpus.free.values()) - gpus.promised if gpus else 0

    def place(self, launch: Launch) -> Placement:
        """The placement of this launch."""
        requested = launch.accelerator or ACCELERATOR_AUTO
        if self._gpus is None:
            return Placement(requested, LOCAL_REASON)
        resource = self._gpus.resource
        if requested == ACCELERATOR_CPU:
            return Placement(ACCELERATOR_CPU, "The CPU, as requested")
        if not resource:
            if requested == ACCELERATOR_GPU:
                return Placement(ACCELERATOR_CPU, "The CPU: a GPU was requested, but this cluster has no GPUs")
            return Placement(ACCELERATOR_CPU, "The CPU: this cluster has no GPUs")
        if requested == ACCELERATOR_GPU:
            return Placement(ACCELERATOR_GPU, "A GPU, as requested")
        if launch.unscheduled_reason:
            return Placement(ACCELERATOR_CPU, f"The CPU: an earlier launch got no GPU: {launch.unscheduled_reason}")
        if self._free > 0:
            self._free -= 1
            return Placement(ACCELERATOR_GPU, f"A GPU: {_describe_free(self._gpus)}")
        if self._gpus.scales_up:
            return Placement(ACCELERATOR_GPU, f"A GPU: no {resource} is free, and the node pool grows")
        return Placement(ACCELERATOR_CPU, f"The CPU: no node has a free {resource}", is_fallback=True)


def _describe_free(gpus: Gpus) -> str:
    return ", ".join(f"node {node} has {free} {gpus.resource} free" for node, free in sorted(gpus.free.items()))
