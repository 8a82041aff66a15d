"""What the double does for the real client: deploying, calling, looking around."""

from __future__ import annotations

from pathlib import Path

import modal
import pytest
from tests.modal_builders import MOUNT, Deployments, scripted
from tests.modal_double import sample
from tests.modal_double.server import ModalDouble

PATIENCE = 20


async def test_a_function_runs_with_all_that_was_deployed_with_it(
    double: ModalDouble, deployments: Deployments
) -> None:
    function = await deployments.function(
        volumes={MOUNT: await deployments.volume()},
        secrets=[modal.Secret.from_dict({"SECRET": f"{MOUNT}/key"})],
        gpu="A10:2",
    )
    call = await function.spawn.aio(f"{MOUNT}/x", word="w")
    got = await call.get.aio(timeout=PATIENCE)
    (container,) = double.containers
    folder = container.start.volumes[MOUNT]
    assert got["folder"] == str(folder / "x")
    assert got["secret"] == str(folder / "key")
    assert (got["word"], got["image"], got["call"]) == ("w", "a b", call.object_id)
    assert got["gpus"] == "NVIDIA A10\nNVIDIA A10\n"
    assert Path(got["source"]).is_relative_to(container.start.folder)
    assert Path(got["home"]).is_relative_to(container.start.folder)
    assert double.function_calls[call.object_id].gpus_got == ["A10:2"]
    assert double.unimplemented == []


async def test_what_a_function_raises_comes_back_as_it_was(deployments: Deployments) -> None:
    function = await deployments.function(sample.fail)
    call = await function.spawn.aio("so it goes")
    with pytest.raises(ValueError, match="so it goes"):
        await call.get.aio(timeout=PATIENCE)


async def test_a_call_is_found_by_its_id_and_answers_when_it_is_done(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.use_container(scripted("hand_back({'exit_code': 3})"))
    double.trouble.hold_queue()
    function = await deployments.function()
    call = deployments.call(await function.spawn.aio("x"))
    with pytest.raises(TimeoutError):
        await call.get.aio(timeout=0)
    assert double.function_calls[call.object_id].state == "queued"
    await double.trouble.open_queue()
    assert await call.get.aio(timeout=PATIENCE) == {"exit_code": 3}
    assert double.function_calls[call.object_id].state == "done"


async def test_a_running_call_has_no_value_yet(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.use_container(scripted("wait_for_ever()"))
    function = await deployments.function()
    call = await function.spawn.aio("x")
    await double.running(call.object_id)
    with pytest.raises(TimeoutError):
        await call.get.aio(timeout=0)
    assert double.function_calls[call.object_id].state == "running"


async def test_a_large_input_goes_as_a_blob(double: ModalDouble, deployments: Deployments) -> None:
    function = await deployments.function()
    long = "x" * 20_000
    call = await function.spawn.aio(long)
    assert (await call.get.aio(timeout=PATIENCE))["folder"] == long
    assert double.calls["BlobCreate"] == 1


async def test_deploying_again_keeps_the_function_and_its_calls(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.use_container(scripted("hand_back(attempt)"))
    function = await deployments.function(gpu="T4")
    call = await function.spawn.aio("x")
    again = await deployments.function(gpu="L4")
    await again.hydrate.aio()
    assert again.object_id == function.object_id
    assert double.functions[again.object_id].gpus == ["L4:1"]
    assert len(double.apps) == 1
    assert await deployments.call(call).get.aio(timeout=PATIENCE) == 1


async def test_options_replace_what_was_deployed(
    double: ModalDouble, deployments: Deployments
) -> None:
    function = await deployments.function(
        volumes={MOUNT: await deployments.volume("one")}, gpu=["H100", "L4"], timeout=100
    )
    bound = function.with_options(volumes={"/other": await deployments.volume("two")}, timeout=50)
    call = await bound.spawn.aio("/other/x")
    await call.get.aio(timeout=PATIENCE)
    start = double.containers[0].start
    assert list(start.volumes) == ["/other"]
    assert start.args == (str(start.volumes["/other"] / "x"),)
    assert start.function.timeout_secs == 50
    assert double.function_calls[call.object_id].gpus_asked == ["H100:1", "L4:1"]


async def test_a_function_that_is_not_deployed_is_not_found(
    double: ModalDouble, client: modal.Client
) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        await modal.Function.from_name("nothing", "nothing", client=client).hydrate.aio()


async def test_a_call_that_the_double_does_not_know_names_itself(
    double: ModalDouble, client: modal.Client
) -> None:
    with pytest.raises(modal.exception.UnimplementedError):
        await modal.Dict.from_name("d", create_if_missing=True, client=client).hydrate.aio()
    assert double.unimplemented == ["DictGetOrCreate"]


async def test_prices_can_be_asked_for(double: ModalDouble, client: modal.Client) -> None:
    double.rates["gpu_t4"] = "0.5"
    rates = await modal.Workspace.from_context(client=client).billing.rates.aio()
    assert float(rates["gpu_t4"]) == 0.5


async def test_apps_have_tags_and_are_listed(double: ModalDouble, deployments: Deployments) -> None:
    await deployments.function(name="first", tags={"kind": "corral"})
    await deployments.function(name="second")
    app = await modal.App.lookup.aio("first", client=deployments.client)
    assert await app.get_tags.aio(client=deployments.client) == {"kind": "corral"}
    await app.set_tags.aio({"kind": "other"}, client=deployments.client)
    assert double.apps[app.app_id].tags == {"kind": "other"}
    environment = await modal.Environment.from_context(client=deployments.client).hydrate.aio()
    assert {found.name for found in await environment.apps.list.aio()} == {"first", "second"}


async def test_stopping_an_app_ends_what_it_runs(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.use_container(scripted("wait_for_ever()"))
    function = await deployments.function()
    call = await function.spawn.aio("x")
    await double.running(call.object_id)
    app = await modal.App.lookup.aio("app", client=deployments.client)
    await app.stop.aio(client=deployments.client)
    with pytest.raises(modal.exception.RemoteError):
        await call.get.aio(timeout=PATIENCE)
    assert double.containers[0].is_done
    with pytest.raises(modal.exception.ConflictError):
        await function.spawn.aio("y")
