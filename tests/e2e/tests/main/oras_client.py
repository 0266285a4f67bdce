"""oras against the cluster's own registry: python3 oras_client.py HOST CA TOKEN WASM FOLDER. Pushes the file to two repositories
of the namespace default, in one request and in pieces, and pulls it again. Prints «all well» when all was as it should be."""

import filecmp
import os
import sys

import oras.client

host, ca, token, wasm, folder = sys.argv[1:]
client = oras.client.OrasClient(hostname=host, tls_verify=ca, auth_backend="basic")
client.auth.set_basic_auth("robot", token)

target = f"{host}/default/oras:1"
# With no word of its config's type an artifact is one of oras' own.
pushed = client.push(target, files=[f"{wasm}:application/wasm"], disable_path_validation=True)
assert pushed.status_code == 201, (pushed.status_code, pushed.text)
manifest = client.get_manifest(target)
assert manifest["layers"][0]["mediaType"] == "application/wasm", manifest
(pulled,) = client.pull(target, outdir=folder)
assert os.path.basename(pulled) == os.path.basename(wasm)
assert filecmp.cmp(pulled, wasm, shallow=False)

# In pieces, with the config that CNCF's layout of wasm artifacts asks for.
config = os.path.join(folder, "config.json")
with open(config, "w") as f:
    f.write('{"architecture": "wasm", "os": "wasip2", "layerDigests": []}')
pieces = f"{host}/default/oras-pieces:1"
pushed = client.push(
    pieces,
    files=[f"{wasm}:application/wasm"],
    manifest_config=f"{config}:application/vnd.wasm.config.v0+json",
    disable_path_validation=True,
    do_chunked=True,
    chunk_size=64 * 1024,
)
assert pushed.status_code == 201, (pushed.status_code, pushed.text)
assert client.get_tags(pieces) == ["1"], client.get_tags(pieces)
os.remove(pulled)
(again,) = client.pull(pieces, outdir=folder)
assert filecmp.cmp(again, wasm, shallow=False)

# Where it has no rights it is told so.
try:
    client.push(f"{host}/elsewhere/app:1", files=[f"{wasm}:application/wasm"], disable_path_validation=True)
except Exception as error:
    assert "denied" in str(error) or "Forbidden" in str(error) or "403" in str(error), error
else:
    raise AssertionError("pushed to another namespace")
print("all well")
