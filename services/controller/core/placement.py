"""On what a launch is to run, and why, decided from what is known of GPUs. Pure.

| asked | an earlier one found no GPU | a GPU is free, or its pool grows | placed on                     |
|-------|-----------------------------|----------------------------------|-------------------------------|
| cpu   |                             |                                  | the CPU                       |
| gpu   |                             |                                  | a GPU, however long that takes|
| auto  | yes                         |                                  | the CPU                       |
|       | no                          | yes                              | a GPU                         |
|       | no                          | no                               | the CPU                       |
"""

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_CPU, ACCELERATOR_GPU
from services.controller.core.launcher import Gpus, Placement

HERE = "A process on this machine, which finds out by itself whether there is a GPU to use"


class Placing:
    """Places one launch after the other; each that gets a GPU leaves one fewer."""

    def __init__(self, gpus: Gpus | None) -> None:
        self._gpus = gpus
        self._free = sum(gpus.free.values()) - gpus.promised if gpus else 0

    def place(self, launch: Launch) -> Placement:
        """Where this one goes."""
        asked = launch.accelerator or ACCELERATOR_AUTO
        if self._gpus is None:
            return Placement(asked, HERE)
        resource = self._gpus.resource
        if asked == ACCELERATOR_CPU:
            return Placement(ACCELERATOR_CPU, "The CPU, as was asked for")
        if not resource:
            if asked == ACCELERATOR_GPU:
                return Placement(ACCELERATOR_CPU, "The CPU: a GPU was asked for, and this cluster has none")
            return Placement(ACCELERATOR_CPU, "The CPU: this cluster has no GPUs")
        if asked == ACCELERATOR_GPU:
            return Placement(ACCELERATOR_GPU, "A GPU, as was asked for")
        if launch.unscheduled_reason:
            return Placement(
                ACCELERATOR_CPU, f"The CPU, since a GPU was waited for in vain: {launch.unscheduled_reason}"
            )
        if self._free > 0:
            self._free -= 1
            return Placement(ACCELERATOR_GPU, f"A GPU: {self._where(resource)}")
        if self._gpus.scales_up:
            return Placement(ACCELERATOR_GPU, f"A GPU: no {resource} is free, and their pool grows")
        return Placement(ACCELERATOR_CPU, f"The CPU: no node has a free {resource}", is_fallback=True)

    def _where(self, resource: str) -> str:
        assert self._gpus is not None  # noqa: S101 (place has asked)
        return ", ".join(f"node {node} has {free} {resource} free" for node, free in sorted(self._gpus.free.items()))
