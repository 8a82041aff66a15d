"""A Kubernetes API server in this process, with a Job controller and a kubelet that run real commands.

Speaks what the launcher needs as the real one does: lists and watches with resource versions,
bookmarks and 410, label selectors, 409, foreground deletion through finalizers, grace periods, Status
objects. Pods' commands run as processes of this machine. `break_…`, `refuse`, `hold` and the like
script the faults. Checks of a manifest are those that the real server makes and that a launcher could
break.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

Json = dict[str, Any]

NAMESPACE = "corral-test"
JOBS, PODS = "jobs", "pods"
_DNS_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")
_EXPANDED = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_PATHS = {JOBS: "/apis/batch/v1", PODS: "/api/v1"}


@dataclass
class _Event:
    version: int
    kind: str
    type: str
    object: Json


@dataclass
class _Refusal:
    verb: str
    kind: str
    code: int
    reason: str
    message: str
    after_effect: bool
    times: int


@dataclass
class KubernetesDouble:
    """The cluster. `calls` counts by verb and kind: ("list", "jobs"); `open_watches` by kind."""

    runs_pods: bool = True
    # Pods that nobody ends: their node does not answer.
    keeps_pods: bool = False
    url: str = ""
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    open_watches: Counter[str] = field(default_factory=Counter)
    # What pods printed, by name.
    printed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._version = 100
        self._objects: dict[str, dict[str, Json]] = {JOBS: {}, PODS: {}}
        self._history: list[_Event] = []
        self._forgotten = 0
        self._snapshot: dict[str, tuple[list[Json], int]] = {}
        self._refusals: list[_Refusal] = []
        self._gates: dict[tuple[str, str], asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._watch_breaks = 0
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    # ------------------------------------------------------------ the server itself

    async def __aenter__(self) -> KubernetesDouble:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()
        for name in list(self._processes):
            self._kill(name)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self, port: int = 0) -> None:
        app = web.Application()
        for kind, root in _PATHS.items():
            path = f"{root}/namespaces/{{namespace}}/{kind}"
            app.router.add_get(path, self._handler(kind, self._collection))
            app.router.add_post(path, self._handler(kind, self._create))
            app.router.add_get(f"{path}/{{name}}", self._handler(kind, self._get))
            app.router.add_delete(f"{path}/{{name}}", self._handler(kind, self._delete))
        logs = f"{_PATHS[PODS]}/namespaces/{{namespace}}/{PODS}/{{name}}/log"
        app.router.add_get(logs, self._handler(PODS, self._log))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def go_away(self) -> None:
        """Nobody answers at the address any more. The pods go on."""
        if self._runner is not None:
            self.break_watches()
            await self._runner.cleanup()
            self._runner = None

    async def come_back(self) -> None:
        await self.listen(int(self.url.rpartition(":")[2]))

    # ------------------------------------------------------------ scripting

    def names(self, kind: str) -> list[str]:
        return list(self._objects[kind])

    def object(self, kind: str, name: str) -> Json:
        return self._objects[kind][name]

    def change(self, kind: str, name: str, **status: Any) -> None:
        """Replace fields of an object's status, as its controller would."""
        found = deepcopy(self._objects[kind][name])
        found.setdefault("status", {}).update(status)
        self._store(kind, "MODIFIED", found)

    def end_job(self, name: str, kind: str = "Complete", **condition: Any) -> None:
        """A controller's last word on a Job."""
        known = self._objects[JOBS][name].get("status", {}).get("conditions", [])
        ended = {"type": kind, "status": "True", **condition}
        self.change(JOBS, name, conditions=[*known, ended], active=0)

    def vanish(self, kind: str, name: str) -> None:
        """The object is gone at once, whatever belongs to it."""
        self._remove(kind, name)

    def set_suspended(self, name: str, suspended: bool) -> None:
        """What Kueue does. Pods of a Job that is suspended are deleted."""
        job = deepcopy(self._objects[JOBS][name])
        job["spec"]["suspend"] = suspended
        self._store(JOBS, "MODIFIED", job)
        if suspended:
            for pod in self._pods_of(name):
                self._begin_to_end(pod)
        else:
            self._control(name)

    def forget_history(self) -> None:
        """Versions up to now are too old to watch from: 410."""
        self._forgotten = self._version
        self._history.clear()

    def break_watches(self) -> None:
        """Every open watch ends in the middle of a line."""
        self._watch_breaks += 1
        self._ring()

    def freeze_lists(self, kind: str) -> None:
        """From now on lists show this moment: a server that lags behind."""
        self._snapshot[kind] = (deepcopy(list(self._objects[kind].values())), self._version)

    def thaw_lists(self) -> None:
        self._snapshot.clear()

    def refuse(
        self,
        verb: str,
        kind: str,
        code: int,
        reason: str = "",
        message: str = "",
        *,
        after_effect: bool = False,
        times: int = 1,
    ) -> None:
        """Answer the next calls so; `after_effect`: what they asked for has happened."""
        self._refusals.append(_Refusal(verb, kind, code, reason, message, after_effect, times))

    def hold(self, verb: str, kind: str) -> asyncio.Event:
        """Such calls wait, until the event is set."""
        return self._gates.setdefault((verb, kind), asyncio.Event())

    # ------------------------------------------------------------ requests

    def _handler(self, kind: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        async def handler(request: web.Request) -> web.StreamResponse:
            verb = _verb(request)
            self.calls[(verb, kind)] += 1
            if request.match_info["namespace"] != NAMESPACE:
                return _status(403, "Forbidden", f"{kind} is forbidden: no access")
            if (gate := self._gates.get((verb, kind))) is not None:
                await gate.wait()
            refusal = self._refusal_of(verb, kind)
            if refusal is not None and not refusal.after_effect:
                return _status(refusal.code, refusal.reason, refusal.message)
            response: web.StreamResponse = await handle(request, kind)
            if refusal is not None:
                return _status(refusal.code, refusal.reason, refusal.message)
            return response

        return handler

    def _refusal_of(self, verb: str, kind: str) -> _Refusal | None:
        for refusal in self._refusals:
            if (refusal.verb, refusal.kind) == (verb, kind):
                refusal.times -= 1
                if refusal.times == 0:
                    self._refusals.remove(refusal)
                return refusal
        return None

    async def _collection(self, request: web.Request, kind: str) -> web.StreamResponse:
        wanted = _selector(request.query.get("labelSelector", ""))
        if "watch" in request.query:
            return await self._watch(request, kind, wanted)
        objects, version = self._snapshot.get(
            kind, (list(self._objects[kind].values()), self._version)
        )
        items = [one for one in objects if _matches(one, wanted)]
        return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})

    async def _watch(self, request: web.Request, kind: str, wanted: Json) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self._forgotten:
            return _status(410, "Expired", f"too old resource version: {version}")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.open_watches[kind] += 1
        breaks = self._watch_breaks
        try:
            # A bookmark at once: the version that the client may go on from.
            bookmark = {"metadata": {"resourceVersion": str(version)}}
            await _send(response, "BOOKMARK", bookmark)
            while True:
                changed = self._changed
                if breaks != self._watch_breaks:
                    await response.write(b'{"type": "MODIF')
                    return response
                if version < self._forgotten:
                    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}
                    await _send(response, "ERROR", gone)
                    return response
                for event in self._since(version):
                    version = event.version
                    if event.kind == kind and _matches(event.object, wanted):
                        await _send(response, event.type, event.object)
                if changed is self._changed:
                    await changed.wait()
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self.open_watches[kind] -= 1

    async def _get(self, request: web.Request, kind: str) -> web.StreamResponse:
        found = self._objects[kind].get(request.match_info["name"])
        return _status(404, "NotFound", "not found") if found is None else web.json_response(found)

    async def _log(self, request: web.Request, kind: str) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._objects[kind]:
            return _status(404, "NotFound", "not found")
        lines = self.printed.get(name, "").splitlines(keepends=True)
        return web.Response(text="".join(lines[-int(request.query["tailLines"]) :]))

    async def _create(self, request: web.Request, kind: str) -> web.StreamResponse:
        manifest = await request.json()
        name = manifest["metadata"]["name"]
        if (problem := _problem(manifest)) is not None:
            return _status(422, "Invalid", f'{kind} "{name}" is invalid: {problem}')
        if name in self._objects[kind]:
            return _status(409, "AlreadyExists", f'{kind} "{name}" already exists')
        manifest["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": NAMESPACE}
        # What every real server adds: an adopter must not compare the whole.
        manifest["spec"].setdefault("suspend", False)
        self._store(kind, "ADDED", manifest)
        self._control(name)
        return web.json_response(self._objects[kind][name], status=201)

    async def _delete(self, request: web.Request, kind: str) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._objects[kind]:
            return _status(404, "NotFound", "not found")
        options = await request.json()
        assert options["propagationPolicy"] == "Foreground"
        job = deepcopy(self._objects[kind][name])
        if "deletionTimestamp" not in job["metadata"]:
            job["metadata"]["deletionTimestamp"] = _time()
            job["metadata"]["finalizers"] = ["foregroundDeletion"]
            self._store(kind, "MODIFIED", job)
            for pod in self._pods_of(name):
                self._begin_to_end(pod)
            self._collect(name)
        return web.json_response(job)

    # ------------------------------------------------------------ the store

    def _store(self, kind: str, type_: str, found: Json) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._objects[kind][found["metadata"]["name"]] = found
        self._history.append(_Event(self._version, kind, type_, deepcopy(found)))
        self._ring()

    def _remove(self, kind: str, name: str) -> None:
        found = self._objects[kind].pop(name)
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._history.append(_Event(self._version, kind, "DELETED", found))
        self._ring()

    def _since(self, version: int) -> list[_Event]:
        return self._history[bisect_right(self._history, version, key=lambda one: one.version) :]

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------ the Job controller

    def _control(self, name: str) -> None:
        job = self._objects[JOBS][name]
        if job["spec"].get("suspend"):
            return
        self.change(JOBS, name, startTime=_time(), active=job["spec"]["parallelism"])
        if self.runs_pods:
            for index in range(job["spec"]["parallelism"]):
                self.add_pod(name, index)
                self._spawn(self._kubelet(f"{name}-{index}", job["spec"]["template"]["spec"]))

    def add_pod(self, job_name: str, index: int = 0, **status: Any) -> str:
        """The pod of one of a Job's indices. Returns its name."""
        job = self._objects[JOBS][job_name]
        template = deepcopy(job["spec"]["template"])
        template["metadata"]["name"] = name = f"{job_name}-{index}"
        template["metadata"]["uid"] = str(uuid.uuid4())
        template["metadata"]["labels"]["batch.kubernetes.io/job-name"] = job_name
        if job["spec"]["completionMode"] == "Indexed":
            key = "batch.kubernetes.io/job-completion-index"
            template["metadata"].setdefault("annotations", {})[key] = str(index)
        template["status"] = {"phase": "Pending", **status}
        self._store(PODS, "ADDED", template)
        return name

    def _pod_ended(self, name: str) -> None:
        job_name = name.rpartition("-")[0]
        pods = self._pods_of(job_name)
        job = self._objects[JOBS].get(job_name)
        if job is None or "deletionTimestamp" in job["metadata"]:
            self._collect(job_name)
        elif job["spec"].get("suspend"):
            self._remove(PODS, name)
        elif any(pod["status"]["phase"] == "Failed" for pod in pods):
            for pod in pods:
                self._begin_to_end(pod)
            if all(pod["status"]["phase"] in ("Failed", "Succeeded") for pod in pods):
                self.end_job(job_name, "Failed", reason="BackoffLimitExceeded", message="limit")
        elif all(pod["status"]["phase"] == "Succeeded" for pod in pods):
            self.end_job(job_name)

    def _collect(self, job_name: str) -> None:
        """Remove what nothing holds any more: ended pods, then their Job."""
        for pod in self._pods_of(job_name):
            is_over = pod["status"]["phase"] in ("Failed", "Succeeded")
            if is_over or not (self.runs_pods or self.keeps_pods):
                self._remove(PODS, pod["metadata"]["name"])
        if not self._pods_of(job_name) and job_name in self._objects[JOBS]:
            self._remove(JOBS, job_name)

    def _pods_of(self, job_name: str) -> list[Json]:
        key = "batch.kubernetes.io/job-name"
        pods = self._objects[PODS].values()
        return [pod for pod in pods if pod["metadata"]["labels"][key] == job_name]

    # ------------------------------------------------------------ the kubelet

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kubelet(self, name: str, spec: Json) -> None:
        container = next(one for one in spec["containers"] if one["name"] == "training")
        process = await asyncio.create_subprocess_exec(
            *_command(container, self._objects[PODS][name]),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(container, self._objects[PODS][name]),
        )
        self._processes[name] = process
        if "deletionTimestamp" in self._objects[PODS][name]["metadata"]:
            process.terminate()
        else:
            self.change(PODS, name, phase="Running")
        code = await process.wait()
        del self._processes[name]
        exit_code = code if code >= 0 else 128 - code
        state = {"terminated": {"exitCode": exit_code}}
        self.change(
            PODS,
            name,
            phase="Failed" if exit_code else "Succeeded",
            containerStatuses=[{"name": "training", "state": state}],
        )
        self._pod_ended(name)

    def _begin_to_end(self, pod: Json) -> None:
        name, phase = pod["metadata"]["name"], pod["status"]["phase"]
        if "deletionTimestamp" in pod["metadata"] or phase in ("Failed", "Succeeded"):
            return
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        ending = deepcopy(pod)
        ending["metadata"]["deletionTimestamp"] = _time(timedelta(seconds=grace))
        self._store(PODS, "MODIFIED", ending)
        if name in self._processes:
            self._processes[name].terminate()
            asyncio.get_running_loop().call_later(grace, self._kill, name)

    def evict(self, name: str) -> None:
        """What `kubectl drain` asks for: the pod may end by itself, and says why it had to."""
        disrupted = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
        self.change(PODS, name, conditions=[disrupted])
        self._begin_to_end(self._objects[PODS][name])

    def kill_pod(self, name: str) -> None:
        """The container is killed, with all that runs in it."""
        self._kill(name)

    def _kill(self, name: str) -> None:
        if (process := self._processes.get(name)) is not None:
            for pid in {process.pid, *_descendants(process.pid)}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- details


def _verb(request: web.Request) -> str:
    if request.method != "GET":
        return {"POST": "create", "DELETE": "delete"}[request.method]
    if "name" in request.match_info:
        return "get"
    return "watch" if "watch" in request.query else "list"


def _status(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "status": "Failure", "code": code}
    return web.json_response(status | {"reason": reason, "message": message}, status=code)


async def _send(response: web.StreamResponse, kind: str, found: Json) -> None:
    await response.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")


def _selector(text: str) -> Json:
    return dict(part.split("=", 1) for part in text.split(",") if part)


def _matches(found: Json, wanted: Json) -> bool:
    labels = found["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, value in wanted.items())


def _problem(manifest: Json) -> str | None:
    """Why the real server would not take the Job."""
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    pod = spec["template"]
    is_indexed = spec["completionMode"] == "Indexed"
    longest = f"{name}-{spec['completions'] - 1}" if is_indexed else name
    if not _DNS_LABEL.match(longest):
        return f"metadata.name: {longest!r} is no DNS label"
    for labels in (manifest["metadata"]["labels"], pod["metadata"]["labels"]):
        for label, value in labels.items():
            if not isinstance(value, str) or not _LABEL_VALUE.match(value):
                return f"metadata.labels: {label}={value!r}"
    if "podFailurePolicy" in spec and pod["spec"].get("restartPolicy") != "Never":
        return "spec.podFailurePolicy: needs restartPolicy Never"
    if spec.get("podReplacementPolicy") not in (None, "Failed"):
        return "spec.podReplacementPolicy: must be Failed with a podFailurePolicy"
    for container in pod["spec"]["containers"]:
        for variable in container.get("env", []):
            if not isinstance(variable.get("value", ""), str):
                return f"env {variable['name']}: value must be a string"
    return None


def _environment(container: Json, pod: Json) -> dict[str, str]:
    given = {one["name"]: one["value"] for one in container.get("env", [])}
    key = "batch.kubernetes.io/job-completion-index"
    index = pod["metadata"].get("annotations", {}).get(key)
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": tempfile.gettempdir(),
    }
    return {**own, **given, **({"JOB_COMPLETION_INDEX": index} if index else {})}


def _command(container: Json, pod: Json) -> list[str]:
    """$(NAME) stands for a variable's value, $$ for a dollar."""
    values = _environment(container, pod)

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else values.get(found[1], found[0])

    return [_EXPANDED.sub(value, part) for part in [*container["command"], *container["args"]]]


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found - {pid}


def _time(later: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + later).strftime("%Y-%m-%dT%H:%M:%SZ")
