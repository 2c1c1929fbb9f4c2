"""Records each way to end on a real Kubernetes: `python -m scripts.record_endings`, as root.

For each, tests/unit/controller/kubernetes/endings/ gets a file with the last state of the Job, its pods and its events,
or with the refusal. The failure classifier is tested on these files; record them again for a newer Kubernetes. One is
not repeated here: `node_shut_down` needs a logind that announces a shutdown to the kubelet.
"""

import asyncio
import json
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.controller.core.launcher import Placement, name_of
from services.controller.kubernetes.api_client import Api, Refusal, open_api
from services.controller.kubernetes.job_manifest import Manifest, build_manifest
from services.controller.kubernetes.reflector import Reflector
from testing.fakes import controller
from testing.fakes.controller import HERE, launch
from testing.servers.kubernetes import Cluster, Namespace, cannot, cluster, namespace

FOLDER = Path(__file__).parents[1] / "tests" / "unit" / "controller" / "kubernetes" / "endings"
Body = dict[str, Any]
until = partial(controller.until, seconds=240)


@dataclass(frozen=True)
class Raw:
    """An object in the API's JSON."""

    body: Body

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])


@dataclass
class Stage:
    """The namespace, with caches of its Jobs and pods."""

    namespace: Namespace
    api: Api
    jobs: Reflector[Raw]
    pods: Reflector[Raw]

    def job(self, name: str) -> Body:
        return next(one.body for one in self._all(self.jobs) if one.body["metadata"]["name"] == name)

    def pods_of(self, name: str) -> list[Body]:
        label = "batch.kubernetes.io/job-name"
        return [one.body for one in self._all(self.pods) if one.body["metadata"]["labels"].get(label) == name]

    def is_running(self, name: str) -> bool:
        return name in self.namespace.control.starts

    def has_failed(self, name: str) -> bool:
        conditions = self.job(name).get("status", {}).get("conditions", ())
        return any(one["type"] == "Failed" and one["status"] == "True" for one in conditions)

    def is_gone(self, name: str) -> bool:
        return not any(one.body["metadata"]["name"] == name for one in self.jobs.items.values())

    def is_pending(self, name: str, reason: str) -> bool:
        return any(reason in json.dumps(pod.get("status", {})) for pod in self.pods_of(name))

    @staticmethod
    def _all(reflector: Reflector[Raw]) -> list[Raw]:
        return [*reflector.items.values(), *reflector.tombstones.values()]


def clean(body: Any) -> Any:
    """Drops the fields that say nothing about the end."""
    if isinstance(body, dict):
        return {key: clean(value) for key, value in body.items() if key not in ("managedFields", "env", "command")}
    return [clean(one) for one in body] if isinstance(body, list) else body


def write(name: str, body: Body) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps(clean(body), indent=1, sort_keys=True) + "\n")
    print(name, flush=True)


Change = Callable[[Manifest], None]


class Recorder:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._namespace = stage.namespace

    async def create(self, *, job: str = "", change: Change | None = None, **settings: Any) -> str:
        """Creates the controller's Job with a change; returns its name."""
        one = launch(job or str(uuid.uuid4()), 1)
        body = build_manifest(
            one, Placement(settings.pop("on", HERE.on), "Recorded"), self._namespace.settings(**settings)
        )
        (change or (lambda _: None))(body)
        await self._stage.api.post(f"/apis/batch/v1/namespaces/{self._namespace.name}/jobs", body)
        await until(
            lambda: any(raw.body["metadata"]["name"] == name_of(one) for raw in self._stage.jobs.items.values())
        )
        return name_of(one)

    async def write(self, ending: str, name: str) -> None:
        """Writes the present state of the Job to the file."""
        job = self._stage.job(name)
        path = f"/api/v1/namespaces/{self._namespace.name}/events"
        pods, events = self._stage.pods_of(name), []
        for one in (job, *pods):
            found = await self._stage.api.get(path, fieldSelector=f"involvedObject.uid={one['metadata']['uid']}")
            events += found["items"]
        write(ending, {"job": job, "gone": self._stage.is_gone(name), "pods": pods, "events": events})

    def _events(self, name: str) -> list[Body]:
        return [one for one in self._namespace.events() if one["involvedObject"]["name"].startswith(name)]

    async def exit_code(self, code: int) -> None:
        """A pod that ends with an exit code."""
        name = await self.create()
        await until(lambda: self._stage.is_running(name))
        self._namespace.finish(name, code)
        await until(lambda: self._stage.has_failed(name))
        await self.write(f"exit_{code}", name)

    async def failed(self, ending: str, **how: Any) -> None:
        """A Job that fails by itself."""
        name = await self.create(**how)
        await until(lambda: self._stage.has_failed(name))
        await self.write(ending, name)

    async def pending(self, ending: str, reason: str, event: str = "", **how: Any) -> None:
        """A pod that stays pending for a reason, or a Job without a pod; with an Event about it."""
        name = await self.create(**how)
        await until(lambda: not reason or self._stage.is_pending(name, reason))
        await until(lambda: not event or any(one["reason"] == event for one in self._events(name)))
        await self.write(ending, name)

    async def outlived(self, ending: str, change: Change) -> None:
        """A pod whose analyzer has ended while another container runs on."""
        name = await self.create(change=change)
        await until(lambda: self._stage.is_pending(name, '"terminated"'))
        await self.write(ending, name)

    async def after(self, ending: str, act: Callable[[str], object], over: Callable[[str], bool], **how: Any) -> None:
        """A running pod that ends after an act."""
        name = await self.create(**how)
        await until(lambda: self._stage.is_running(name))
        await asyncio.to_thread(act, name)
        await until(lambda: over(name))
        await self.write(ending, name)

    async def refused(self, ending: str) -> None:
        """A Job that the API server refuses."""
        try:
            await self.create()
        except Refusal as error:
            write(ending, {"code": error.code, "reason": error.reason, "message": str(error)})
        else:
            sys.exit(f"{ending}: the API server accepted the Job")


def command(*words: str) -> Change:
    def change(body: Manifest) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["command"] = [*words]

    return change


def no_such_config(body: Manifest) -> None:
    body["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "nobody-made-it"}}]


def no_such_volume(body: Manifest) -> None:
    pod = body["spec"]["template"]["spec"]
    pod["volumes"] += [{"name": "authority", "configMap": {"name": "nobody-made-it"}}]
    pod["containers"][0]["volumeMounts"] += [{"name": "authority", "mountPath": "/authority"}]


EATER = "x=x; while :; do x=$x$x; done"


def sidecar(script: str) -> Change:
    """Runs a script beside a container that goes on, as one of a service mesh does."""

    def change(body: Manifest) -> None:
        containers = body["spec"]["template"]["spec"]["containers"]
        containers[0]["command"] = ["sh", "-c", script]
        containers.append(
            {**containers[0], "name": "sidecar", "command": ["sh", "-c", "sleep 600"], "volumeMounts": []}
        )

    return change


def broken_init(body: Manifest) -> None:
    pod = body["spec"]["template"]["spec"]
    pod["initContainers"] = [{**pod["containers"][0], "name": "before", "command": ["sh", "-c", "exit 3"]}]


async def record(recorder: Recorder, stage: Stage, made: Cluster) -> None:
    """Records all; those that affect the node come last, one by one."""
    space = ["-n", stage.namespace.name]
    delete_job = lambda name: made.kubectl("delete", "job", name, *space)  # noqa: E731
    delete_pods = lambda name: made.kubectl("delete", "pod", "-l", f"job-name={name}", *space)  # noqa: E731
    missing_image = {"analyzer_image": "localhost/nobody-made-it:1"}
    async with asyncio.TaskGroup() as group:
        for recording in (
            *(recorder.exit_code(code) for code in (65, 69, 70, 75)),
            recorder.failed("out_of_memory", change=command("sh", "-c", "x=x; while :; do x=$x$x; done")),
            recorder.failed(
                "evicted", change=command("sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=64; sleep 600")
            ),
            recorder.failed("deadline", deadline_seconds=3, wait_seconds=1),
            recorder.failed("not_executable", change=command("/nobody/made/it")),
            recorder.failed("init_failed", change=broken_init),
            recorder.pending("image_pull_backoff", "ImagePullBackOff", **missing_image),
            recorder.pending("image_not_found", "ImagePullBackOff", analyzer_image=f"{made.registry}/nobody-made-it:1"),
            recorder.pending("no_such_volume", "ContainerCreating", change=no_such_volume, event="FailedMount"),
            recorder.pending("no_such_account", "", analyzer_service_account="nobody", event="FailedCreate"),
            recorder.outlived("out_of_memory_beside_a_sidecar", sidecar(EATER)),
            recorder.outlived("exit_65_beside_a_sidecar", sidecar("exit 65")),
            recorder.pending("err_image_never_pull", "ErrImageNeverPull", image_pull_policy="Never", **missing_image),
            recorder.pending("invalid_image_name", "InvalidImageName", analyzer_image="NO:SUCH:NAME"),
            recorder.pending("create_container_config_error", "CreateContainerConfigError", change=no_such_config),
            recorder.pending("pending_cpu", "Unschedulable", analyzer_cpu="900"),
            recorder.pending("pending_memory", "Unschedulable", analyzer_memory="9Ti"),
            recorder.pending("pending_gpu", "Unschedulable", on=2, gpu_resource="nvidia.com/gpu"),
            recorder.after("job_deleted_by_hand", delete_job, stage.is_gone),
            recorder.after("pod_deleted_by_hand", delete_pods, stage.has_failed),
            recorder.after("killed_at_grace_end", delete_pods, stage.has_failed, job="stubborn"),
        ):
            group.create_task(recording)
    await recorder.after("drained", lambda _: drain(made), stage.has_failed)
    await asyncio.to_thread(made.kubectl, "uncordon", "node")
    await recorder.after("node_without_power", lambda _: reboot(made), stage.has_failed)
    await recorder.after("node_gone", lambda _: lose_node(made), stage.has_failed)
    await asyncio.to_thread(made.sv, "up", "kubelet")
    await asyncio.to_thread(made.kubectl, "create", "quota", "pods", "--hard=pods=0", *space)
    name = await recorder.create()
    await until(lambda: any("exceeded quota" in one.get("message", "") for one in stage.namespace.events()))
    await recorder.write("quota_on_pods", name)
    await asyncio.to_thread(made.kubectl, "create", "quota", "jobs", "--hard=count/jobs.batch=0", *space)
    await asyncio.sleep(2)
    await recorder.refused("quota_on_jobs")
    await asyncio.to_thread(made.kubectl, "delete", "quota", "jobs", *space)
    deny_jobs(made, stage.namespace.name)
    await asyncio.sleep(5)
    await recorder.refused("admission_denied")


def drain(made: Cluster) -> None:
    made.kubectl("drain", "node", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")


def reboot(made: Cluster) -> None:
    made.lose_power()
    made.boot_node()


def lose_node(made: Cluster) -> None:
    made.sv("down", "kubelet")
    made.kubectl("delete", "node", "node")


def deny_jobs(made: Cluster, namespace: str) -> None:
    """Creates an admission policy that denies every Job, as a webhook could."""
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "no-jobs"}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    spec: Body = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}
    made.apply({**api, "kind": "ValidatingAdmissionPolicy", "spec": spec})
    match = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": "no-jobs", "validationActions": ["Deny"], "matchResources": match}
    made.apply({**api, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding})


async def main(made: Cluster, space: Namespace) -> None:
    FOLDER.mkdir(exist_ok=True)
    async with open_api(made.admin, 32) as api:
        base, ignore = f"/namespaces/{space.name}", lambda: None
        jobs: Reflector[Raw] = Reflector(api, f"/apis/batch/v1{base}/jobs", Raw, ignore)
        pods: Reflector[Raw] = Reflector(api, f"/api/v1{base}/pods", Raw, ignore)
        stage = Stage(space, api, jobs, pods)
        reflecting = [asyncio.create_task(one.run()) for one in (jobs, pods)]
        await record(Recorder(stage), stage, made)
        for task in reflecting:
            task.cancel()


if __name__ == "__main__":
    if reason := cannot():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, cluster() as made, namespace(made, Path(folder)) as space:
        asyncio.run(main(made, space))
