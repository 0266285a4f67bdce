"""The Python client against a cluster: typed calls, dynamic calls, watches, errors."""

import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core, apps, rbac = client.CoreV1Api(), client.AppsV1Api(), client.RbacAuthorizationV1Api()

core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py")))
secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"password": "hunter2"})
core.create_namespaced_secret("py", secret)
assert core.read_namespaced_secret("s", "py").data == {"password": "aHVudGVyMg=="}

container = client.V1Container(
    name="hello",
    image="file://examples/hello/hello.wasm",
    ports=[client.V1ContainerPort(container_port=8080)],
    env=[
        client.V1EnvVar(
            name="PASSWORD",
            value_from=client.V1EnvVarSource(secret_key_ref=client.V1SecretKeySelector(name="s", key="password")),
        )
    ],
)
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels={"app": "hello"}), spec=client.V1PodSpec(containers=[container])
)
deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="hello"),
    spec=client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels={"app": "hello"}), template=template
    ),
)
apps.create_namespaced_deployment("py", deployment)
for event in watch.Watch().stream(apps.list_namespaced_deployment, "py", timeout_seconds=60):
    if (event["object"].status.ready_replicas or 0) == 2:
        break
else:
    raise SystemExit("the deployment did not become ready")

pods = core.list_namespaced_pod("py", label_selector="app=hello").items
assert len(pods) == 2 and all(p.status.pod_ip.startswith("10.244.") for p in pods), pods
maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
maps.create(body={"metadata": {"name": "m"}, "data": {"a": "1"}}, namespace="py")
patched = maps.patch(name="m", namespace="py", body={"data": {"b": "2"}}, content_type="application/merge-patch+json")
assert dict(patched.data) == {"a": "1", "b": "2"}
typed = core.patch_namespaced_config_map("m", "py", {"data": {"a": None, "c": "3"}})
assert typed.data == {"b": "2", "c": "3"}, typed
listed = core.patch_namespaced_config_map("m", "py", [{"op": "remove", "path": "/data/c"}])
assert listed.data == {"b": "2"}, listed

try:
    core.create_namespaced_config_map("py", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="m")))
    raise SystemExit("a second create was accepted")
except ApiException as e:
    assert e.status == 409, e

first = core.list_namespaced_config_map("py", limit=1)
assert first.metadata._continue
rest = core.list_namespaced_config_map("py", limit=10, _continue=first.metadata._continue)
assert first.metadata.resource_version == rest.metadata.resource_version

assert "cluster-admin" in [r.metadata.name for r in rbac.list_cluster_role().items]
core.delete_namespace("py")
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        core.read_namespace("py")
    except ApiException as e:
        assert e.status == 404, e
        print("all well")
        break
    time.sleep(0.05)
