"""Apps, the environment and the workspace.

An app is what is deployed under a name; its functions are known here by id only.
"""

# ruff: noqa: N802 - the methods bear the names of Modal's calls

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2
from tests.modal_double.rpc import Caller, refused

IMAGE_BUILDER_VERSION = "2025.06"

# USD: a second of a GPU, of a core, of a GiB. Keys of the double's own: the real ones are not public.
RATES = {
    "gpu_t4": "0.000164",
    "gpu_l4": "0.000222",
    "gpu_a10": "0.000306",
    "gpu_l40s": "0.000542",
    "gpu_a100_40gb": "0.000583",
    "gpu_a100_80gb": "0.000694",
    "gpu_h100": "0.001097",
    "gpu_h200": "0.001261",
    "gpu_b200": "0.001736",
    "cpu_core": "0.0000131",
    "memory_gib": "0.00000222",
}

_STOPPED = api_pb2.APP_STATE_STOPPED


@dataclass
class App:
    """`functions` has the ids of what is deployed, by name. `state` is an api_pb2.AppState."""

    id: str
    name: str
    state: int
    functions: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)
    deployed_at: float = 0.0

    def stop(self) -> None:
        self.state = _STOPPED

    @property
    def is_stopped(self) -> bool:
        return self.state == _STOPPED

    @property
    def metadata(self) -> api_pb2.AppHandleMetadata:
        lifecycle = api_pb2.AppLifecycle(
            app_state=self.state, created_at=self.created_at, deployed_at=self.deployed_at
        )
        return api_pb2.AppHandleMetadata(
            description=self.name, app_id=self.id, lifecycle=lifecycle, functions=self.functions
        )


class AppService:
    """The calls on apps (`apps`, by id), but for AppStop: that ends calls, see functions.py."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.rates = dict(RATES)

    def deployed(self, name: str) -> App | None:
        """The living app of that name."""
        for app in self.apps.values():
            if app.name == name and not app.is_stopped:
                return app
        return None

    def by_id(self, app_id: str) -> App:
        if app_id not in self.apps:
            raise refused(Status.NOT_FOUND, f"App {app_id} not found")
        return self.apps[app_id]

    # ------------------------------------------------------------ workspace and environment

    async def ClientHello(self, _: Any, __: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(image_builder_version=IMAGE_BUILDER_VERSION)

    async def EnvironmentGetOrCreate(
        self, request: Any, _: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        settings = api_pb2.EnvironmentSettings(image_builder_version=IMAGE_BUILDER_VERSION)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id="en-1",
            metadata=api_pb2.EnvironmentMetadata(
                name=request.deployment_name or "main", settings=settings
            ),
        )

    async def WorkspaceNameLookup(self, _: Any, __: Caller) -> api_pb2.WorkspaceNameLookupResponse:
        return api_pb2.WorkspaceNameLookupResponse(workspace_name="tests", username="tester")

    async def WorkspaceBillingRates(
        self, _: Any, __: Caller
    ) -> api_pb2.WorkspaceBillingRatesResponse:
        formatted = "\n".join(f"{name}: {rate}" for name, rate in self.rates.items())
        return api_pb2.WorkspaceBillingRatesResponse(rates=self.rates, formatted=formatted)

    # ------------------------------------------------------------ apps

    async def AppGetByDeploymentName(
        self, request: Any, _: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        app = self.deployed(request.name)
        return api_pb2.AppGetByDeploymentNameResponse(
            app_id=app.id if app else "", environment_name="main"
        )

    async def AppCreate(self, request: Any, _: Caller) -> api_pb2.AppCreateResponse:
        app = self._new(request.description, request.app_state)
        app.tags = dict(request.tags)
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url=f"https://double/{app.id}")

    async def AppGetOrCreate(self, request: Any, _: Caller) -> api_pb2.AppGetOrCreateResponse:
        app = self.deployed(request.app_name) or self.apps.get(request.app_name)
        if app is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise refused(Status.NOT_FOUND, f"App '{request.app_name}' not found")
            app = self._new(request.app_name, api_pb2.APP_STATE_DEPLOYED)
        return api_pb2.AppGetOrCreateResponse(app_id=app.id, handle_metadata=app.metadata)

    def _new(self, name: str, state: int) -> App:
        app = App(f"ap-{uuid4().hex[:22]}", name, state)
        self.apps[app.id] = app
        return app

    async def AppGetLayout(self, request: Any, _: Caller) -> api_pb2.AppGetLayoutResponse:
        layout = api_pb2.AppLayout(function_ids=self.by_id(request.app_id).functions)
        return api_pb2.AppGetLayoutResponse(app_layout=layout)

    async def AppPublish(self, request: Any, _: Caller) -> api_pb2.AppPublishResponse:
        app = self.by_id(request.app_id)
        app.name = request.name or app.name
        app.state = request.app_state or app.state
        app.functions = dict(request.function_ids)
        app.tags = dict(request.tags)
        app.deployed_at = time.time()
        return api_pb2.AppPublishResponse(
            url=f"https://double/{app.id}", deployed_at=app.deployed_at
        )

    async def AppHeartbeat(self, request: Any, _: Caller) -> Empty:
        self.by_id(request.app_id)
        return Empty()

    async def AppClientDisconnect(self, request: Any, _: Caller) -> Empty:
        app = self.by_id(request.app_id)
        if app.state == api_pb2.APP_STATE_INITIALIZING:
            app.stop()
        return Empty()

    async def AppList(self, _: Any, __: Caller) -> api_pb2.AppListResponse:
        items = [
            api_pb2.AppListResponse.AppListItem(
                app_id=app.id,
                description=app.name,
                name=app.name,
                state=app.state,
                created_at=app.created_at,
                metadata=app.metadata,
            )
            for app in self.apps.values()
        ]
        return api_pb2.AppListResponse(apps=items)

    async def AppSetTags(self, request: Any, _: Caller) -> Empty:
        self.by_id(request.app_id).tags = dict(request.tags)
        return Empty()

    async def AppGetTags(self, request: Any, _: Caller) -> api_pb2.AppGetTagsResponse:
        return api_pb2.AppGetTagsResponse(tags=self.by_id(request.app_id).tags)
