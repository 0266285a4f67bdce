"""The asynchronous Python client against a cluster: typed calls, patches, watches, exec over a WebSocket, a 410."""

import asyncio
import base64
import json

from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.rest import ApiException
from kubernetes_asyncio.stream import WsApiClient

ERROR = 3


async def refused(call, status):
    """The error that a call must end with."""
    try:
        await call
    except ApiException as e:
        assert e.status == status, e
        return e
    raise SystemExit(f"accepted, where {status} was due")


async def maps(core):
    """ConfigMaps through their life, and a watch that sees all of it."""
    start = (await core.list_namespaced_config_map("default")).metadata.resource_version
    made = await core.create_namespaced_config_map(
        "default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="m"), data={"a": "1"})
    )
    assert made.metadata.uid and made.metadata.managed_fields, made
    merged = await core.patch_namespaced_config_map("m", "default", {"data": {"a": None, "b": "2"}})
    assert merged.data == {"b": "2"}, merged
    listed = await core.patch_namespaced_config_map(
        "m", "default", [{"op": "add", "path": "/data/c", "value": "3"}]
    )
    assert listed.data == {"b": "2", "c": "3"}, listed
    made.data = {"stale": "yes"}
    await refused(core.replace_namespaced_config_map("m", "default", made), 409)
    await refused(core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="m"))), 409)
    await core.delete_namespaced_config_map("m", "default")
    await refused(core.read_namespaced_config_map("m", "default"), 404)
    seen = []
    async with watch.Watch() as events:
        stream = events.stream(
            core.list_namespaced_config_map,
            "default",
            resource_version=start,
            field_selector="metadata.name=m",
            timeout_seconds=60,
        )
        async for event in stream:
            seen.append((event["type"], event["object"].data))
            if event["type"] == "DELETED":
                break
    assert seen == [
        ("ADDED", {"a": "1"}),
        ("MODIFIED", {"b": "2"}),
        ("MODIFIED", {"b": "2", "c": "3"}),
        ("DELETED", {"b": "2", "c": "3"}),
    ], seen


async def expired(core):
    """A page of a list that is no longer kept."""
    first = await core.list_config_map_for_all_namespaces(limit=1)
    token = first.metadata._continue
    assert token, first
    page = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    page["rv"] = 1
    old = base64.urlsafe_b64encode(json.dumps(page).encode()).decode().rstrip("=")
    gone = await refused(core.list_config_map_for_all_namespaces(limit=1, _continue=old), 410)
    assert json.loads(gone.body)["reason"] == "Expired", gone


async def streams(core):
    """Commands in a container."""
    container = client.V1Container(name="c", image="file://examples/preview1/preview1.wasm", args=["loop"])
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec=client.V1PodSpec(containers=[container]))
    await core.create_namespaced_pod("default", pod)
    async with watch.Watch() as events:
        async for event in events.stream(
            core.list_namespaced_pod, "default", field_selector="metadata.name=p", timeout_seconds=60
        ):
            if event["object"].status.phase == "Running":
                break
        else:
            raise SystemExit("the pod does not run")
    async with WsApiClient() as api:
        sockets = client.CoreV1Api(api)
        options = {"stdin": False, "stdout": True, "stderr": True, "tty": False}
        said = await sockets.connect_get_namespaced_pod_exec("p", "default", command=["echo", "two words"], **options)
        assert said == "two words\n", said
        code = None
        socket = await sockets.connect_get_namespaced_pod_exec(
            "p", "default", command=["preview1", "exit", "42"], _preload_content=False, **options
        )
        async with socket as messages:
            async for message in messages:
                if message.data[:1] == bytes([ERROR]):
                    code = WsApiClient.parse_error_data(message.data[1:].decode())
        assert code == 42, code
    await core.delete_namespaced_pod("p", "default", grace_period_seconds=0)


async def main():
    await config.load_kube_config()
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        await maps(core)
        await expired(core)
        await streams(core)
    print("all well")


asyncio.run(main())
