"""Functions: what is deployed, looked up and bound to options; and the calls that clients make of them.

Knows definitions and the interface. What becomes of an input is calls.py's matter.
"""

# ruff: noqa: N802 - the methods bear the names of Modal's calls

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2
from tests.modal_double.apps import AppService
from tests.modal_double.blobs import Blobs
from tests.modal_double.calls import Calls, FunctionCall
from tests.modal_double.rpc import Caller, refused

# As Modal has it: larger inputs of spawn go to a blob.
MAX_ASYNC_INPUT = 8 * 1024


@dataclass
class Function:
    """`ranked` has one definition for each GPU of a fall-back list, else a single one."""

    id: str
    app_id: str
    name: str
    ranked: list[api_pb2.Function]
    data: api_pb2.FunctionData

    @property
    def definition(self) -> api_pb2.Function:
        return self.ranked[0]

    @property
    def gpus(self) -> list[str]:
        """What it asks for, in order: ["H100:1", "A10:2"]; empty without a GPU."""
        configs = [one.resources.gpu_config for one in self.ranked]
        return [f"{one.gpu_type}:{one.count}" for one in configs if one.count]

    @property
    def metadata(self) -> api_pb2.FunctionHandleMetadata:
        definition = self.definition
        return api_pb2.FunctionHandleMetadata(
            function_name=self.name,
            function_type=definition.function_type,
            definition_id=f"de-{self.id}",
            function_schema=definition.function_schema,
            max_async_object_size_bytes=MAX_ASYNC_INPUT,
            supported_input_formats=definition.supported_input_formats,
            supported_output_formats=definition.supported_output_formats,
            app_id=self.app_id,
        )


class FunctionService:
    """The calls on functions (`functions`, by id) and on function calls."""

    def __init__(self, apps: AppService, calls: Calls, blobs: Blobs) -> None:
        self._apps = apps
        self._calls = calls
        self._blobs = blobs
        self.functions: dict[str, Function] = {}

    def by_id(self, function_id: str) -> Function:
        if function_id not in self.functions:
            raise refused(Status.NOT_FOUND, f"Function {function_id} not found")
        return self.functions[function_id]

    # ------------------------------------------------------------ deploying

    async def FunctionPrecreate(self, request: Any, _: Caller) -> api_pb2.FunctionPrecreateResponse:
        function_id = request.existing_function_id or f"fu-{uuid4().hex[:22]}"
        if function_id not in self.functions:
            announced = api_pb2.Function(
                function_name=request.function_name,
                function_type=request.function_type,
                function_schema=request.function_schema,
                supported_input_formats=request.supported_input_formats,
                supported_output_formats=request.supported_output_formats,
            )
            self._keep(function_id, request.app_id, [announced], api_pb2.FunctionData())
        function = self.functions[function_id]
        return api_pb2.FunctionPrecreateResponse(
            function_id=function_id, handle_metadata=function.metadata
        )

    async def FunctionCreate(self, request: Any, _: Caller) -> api_pb2.FunctionCreateResponse:
        function_id = request.existing_function_id or f"fu-{uuid4().hex[:22]}"
        if request.HasField("function_data"):
            data = request.function_data
            ranks = sorted(data.ranked_functions, key=lambda one: one.rank)
            ranked = [one.function for one in ranks]
        else:
            ranked = [request.function]
            data = _data_of(request.function)
        function = self._keep(function_id, request.app_id, ranked, data)
        return api_pb2.FunctionCreateResponse(
            function_id=function_id,
            function=function.definition,
            function_data=data,
            handle_metadata=function.metadata,
        )

    def _keep(
        self,
        function_id: str,
        app_id: str,
        ranked: list[api_pb2.Function],
        data: api_pb2.FunctionData,
    ) -> Function:
        function = Function(function_id, app_id, ranked[0].function_name, ranked, data)
        self.functions[function_id] = function
        return function

    async def AppStop(self, request: Any, _: Caller) -> Empty:
        """Nothing of the app runs any more, and nothing can be started."""
        app = self._apps.by_id(request.app_id)
        app.stop()
        for call in self._calls.calls.values():
            if call.function.app_id == app.id:
                await self._calls.cancel(call, terminate=True)
        return Empty()

    # ------------------------------------------------------------ looking up

    async def FunctionGet(self, request: Any, _: Caller) -> api_pb2.FunctionGetResponse:
        app = self._apps.deployed(request.app_name)
        if app is None:
            raise refused(Status.NOT_FOUND, f"App '{request.app_name}' not found")
        if request.object_tag not in app.functions:
            raise refused(Status.NOT_FOUND, f"no function '{request.object_tag}' in '{app.name}'")
        function = self.by_id(app.functions[request.object_tag])
        return api_pb2.FunctionGetResponse(
            function_id=function.id, handle_metadata=function.metadata, function=function.data
        )

    async def FunctionGetById(self, request: Any, _: Caller) -> api_pb2.FunctionGetByIdResponse:
        function = self.by_id(request.function_id)
        return api_pb2.FunctionGetByIdResponse(
            handle_metadata=function.metadata, function=function.data
        )

    async def FunctionBindParams(
        self, request: Any, _: Caller
    ) -> api_pb2.FunctionBindParamsResponse:
        """What with_options asks for: the same function, with some of its options replaced."""
        base = self.by_id(request.function_id)
        options = request.function_options
        ranked = [_with_options(one, options) for one in base.ranked]
        # The client always sends resources, empty where nothing of them was asked for.
        if options.resources.gpu_config.count:
            # One GPU, or none: fall-back lists exist at deploy only.
            ranked = ranked[:1]
        bound_id = f"fu-{uuid4().hex[:22]}"
        bound = self._keep(bound_id, base.app_id, ranked, _data_of(*ranked))
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=bound_id, handle_metadata=bound.metadata
        )

    # ------------------------------------------------------------ calling

    async def FunctionMap(self, request: Any, _: Caller) -> api_pb2.FunctionMapResponse:
        function = self.by_id(request.function_id)
        if self._apps.by_id(function.app_id).is_stopped:
            raise refused(Status.FAILED_PRECONDITION, "the app has been stopped")
        call = self._calls.new(function)
        items = [self._put(call, item) for item in request.pipelined_inputs]
        return api_pb2.FunctionMapResponse(
            function_call_id=call.id,
            pipelined_inputs=items,
            retry_policy=function.definition.retry_policy,
            function_call_jwt=call.id,
        )

    async def FunctionPutInputs(self, request: Any, _: Caller) -> api_pb2.FunctionPutInputsResponse:
        call = self._calls.by_id(request.function_call_id)
        return api_pb2.FunctionPutInputsResponse(
            inputs=[self._put(call, item) for item in request.inputs]
        )

    def _put(self, call: FunctionCall, item: Any) -> api_pb2.FunctionPutInputsResponseItem:
        if call.has_input:
            raise refused(Status.UNIMPLEMENTED, "the double takes one input a call")
        blob_id = item.input.args_blob_id
        self._calls.run(call, self._blobs.blob(blob_id) if blob_id else item.input.args)
        return api_pb2.FunctionPutInputsResponseItem(
            idx=item.idx, input_id=call.input_id, input_jwt=call.input_id
        )

    async def FunctionGetOutputs(
        self, request: Any, _: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        call = self._calls.by_id(request.function_call_id)
        with suppress(TimeoutError):
            await asyncio.wait_for(call.finished.wait(), max(request.timeout, 0.001))
        if call.is_expired:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=0)
        if call.result is None:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        output = api_pb2.FunctionGetOutputsItem(
            result=call.result,
            idx=0,
            input_id=call.input_id,
            data_format=api_pb2.DATA_FORMAT_PICKLE,
            task_id=call.containers[-1].task_id if call.containers else "",
            retry_count=call.failures,
        )
        return api_pb2.FunctionGetOutputsResponse(outputs=[output], last_entry_id="1-0", idxs=[0])

    async def FunctionCallFromId(
        self, request: Any, _: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = self._calls.by_id(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.id,
            num_inputs=1,
            metadata=api_pb2.FunctionCallHandleMetadata(
                app_id=call.function.app_id, function_id=call.function.id
            ),
        )

    async def FunctionCallCancel(self, request: Any, _: Caller) -> Empty:
        call = self._calls.by_id(request.function_call_id)
        await self._calls.cancel(call, terminate=request.terminate_containers)
        return Empty()


def _data_of(*ranked: api_pb2.Function) -> api_pb2.FunctionData:
    first = ranked[0]
    functions = [
        api_pb2.FunctionData.RankedFunction(rank=rank, function=function)
        for rank, function in enumerate(ranked)
    ]
    return api_pb2.FunctionData(
        module_name=first.module_name,
        function_name=first.function_name,
        function_type=first.function_type,
        timeout_secs=first.timeout_secs,
        ranked_functions=functions,
    )


def _with_options(definition: api_pb2.Function, options: Any) -> api_pb2.Function:
    changed = api_pb2.Function()
    changed.CopyFrom(definition)
    if options.replace_volume_mounts:
        del changed.volume_mounts[:]
        changed.volume_mounts.extend(options.volume_mounts)
    if options.replace_secret_ids:
        del changed.secret_ids[:]
        changed.secret_ids.extend(options.secret_ids)
    changed.resources.MergeFrom(options.resources)
    if options.HasField("retry_policy"):
        changed.retry_policy.CopyFrom(options.retry_policy)
    if options.HasField("timeout_secs"):
        changed.timeout_secs = options.timeout_secs
    return changed
