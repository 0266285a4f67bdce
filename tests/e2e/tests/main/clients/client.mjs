// The JavaScript client against a cluster: typed calls, every kind of patch, watches, an informer, streams, metrics, and
// objects of kinds that it does not know.

import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const modules = process.env.COPEPOD_TEST_NODE_MODULES;
const k8s = await import(pathToFileURL(`${modules}/@kubernetes/client-node/dist/index.js`));

const namespace = 'default';
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);

// A promise with what fulfils it, and a deadline.
function expected(what) {
  let done;
  const promise = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), 60_000);
    done = (value) => { clearTimeout(timer); resolve(value); };
  });
  return { promise, done };
}

// What a stream says until it contains `text`.
function said(stream, text) {
  const { promise, done } = expected(text);
  let all = '';
  stream.on('data', (bytes) => {
    all += bytes;
    if (all.includes(text)) done(all);
  });
  return promise;
}

async function refused(call, code) {
  await assert.rejects(call, (error) => error instanceof k8s.ApiException && error.code === code);
}

async function objects() {
  const map = (data) => ({ metadata: { name: 'm', namespace }, data });
  const start = (await core.listNamespacedConfigMap({ namespace })).metadata.resourceVersion;
  const made = await core.createNamespacedConfigMap({ namespace, body: map({ a: '1' }) });
  assert(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
  await refused(core.createNamespacedConfigMap({ namespace, body: map({}) }), 409);
  const patch = (type, body, more = {}) =>
    core.patchNamespacedConfigMap({ name: 'm', namespace, body, ...more }, k8s.setHeaderOptions('Content-Type', type));
  const { JsonPatch, MergePatch, StrategicMergePatch, ServerSideApply } = k8s.PatchStrategy;
  let seen = await patch(JsonPatch, [{ op: 'add', path: '/data/b', value: '2' }]);
  assert.deepEqual(seen.data, { a: '1', b: '2' });
  seen = await patch(MergePatch, { data: { a: null } });
  assert.deepEqual(seen.data, { b: '2' });
  seen = await patch(StrategicMergePatch, { data: { c: '3' } });
  assert.deepEqual(seen.data, { b: '2', c: '3' });
  const applied = { apiVersion: 'v1', kind: 'ConfigMap', ...map({ c: '4' }) };
  await refused(patch(ServerSideApply, applied, { fieldManager: 'applier' }), 409);
  seen = await patch(ServerSideApply, applied, { fieldManager: 'applier', force: true });
  assert.deepEqual(seen.data, { b: '2', c: '4' });
  assert(seen.metadata.managedFields.some((e) => e.manager === 'applier' && e.operation === 'Apply'));
  await refused(core.replaceNamespacedConfigMap({ name: 'm', namespace, body: { ...made, data: {} } }), 409);
  seen.data = { d: '5' };
  await core.replaceNamespacedConfigMap({ name: 'm', namespace, body: seen });
  await core.deleteNamespacedConfigMap({ name: 'm', namespace });
  await refused(core.readNamespacedConfigMap({ name: 'm', namespace }), 404);

  const events = [];
  const gone = expected('the watch sees the deletion');
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const options = { resourceVersion: start, fieldSelector: 'metadata.name=m', allowWatchBookmarks: true };
  const abort = await new k8s.Watch(config).watch(path, options, (type, object) => {
    if (type !== 'BOOKMARK') events.push([type, Object.keys(object.data ?? {}).join()]);
    if (type === 'DELETED') gone.done();
  }, () => {});
  await gone.promise;
  abort.abort();
  const changes = ['a,b', 'b', 'b,c', 'b,c', 'd'].map((keys) => ['MODIFIED', keys]);
  assert.deepEqual(events, [['ADDED', 'a'], ...changes, ['DELETED', 'd']]);
}

async function informer() {
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const labelSelector = 'informed=yes';
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
  const informer = k8s.makeInformer(config, path, list, labelSelector);
  const at = Object.fromEntries(['add', 'update', 'delete'].map((verb) => [verb, expected(`informer: ${verb}`)]));
  for (const verb of Object.keys(at)) informer.on(verb, (object) => at[verb].done(object.metadata.name));
  let stopping = false;
  informer.on('error', (error) => { if (!stopping) throw error; });
  await informer.start();
  const body = { metadata: { name: 'i', labels: { informed: 'yes' } } };
  await core.createNamespacedConfigMap({ namespace, body });
  assert.equal(await at.add.promise, 'i');
  await core.replaceNamespacedConfigMap({ name: 'i', namespace, body: { ...body, data: { a: '1' } } });
  await at.update.promise;
  assert.equal(informer.get('i', namespace).data.a, '1');
  await core.deleteNamespacedConfigMap({ name: 'i', namespace });
  await at.delete.promise;
  stopping = true;
  await informer.stop();
}

async function running(name) {
  const there = expected(`${name} is ready`);
  const options = { fieldSelector: `metadata.name=${name}` };
  const abort = await new k8s.Watch(config).watch(`/api/v1/namespaces/${namespace}/pods`, options, (type, pod) => {
    const ready = pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
    if (ready) there.done();
  }, () => {});
  await there.promise;
  abort.abort();
}

async function streams() {
  const pods = k8s.loadAllYaml(`
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: 'file://examples/preview1/preview1.wasm', args: [loop]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: h}
spec: {containers: [{name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: box}
spec: {restartPolicy: Never, containers: [{name: c, image: copepod.dev/toolbox, stdin: true, stdinOnce: true}]}
`);
  for (const body of pods) await core.createNamespacedPod({ namespace, body });
  for (const pod of pods) await running(pod.metadata.name);

  const command = async (pod, words) => {
    const [out, err] = [new PassThrough(), new PassThrough()];
    const told = { out: '', err: '' };
    out.on('data', (bytes) => { told.out += bytes; });
    err.on('data', (bytes) => { told.err += bytes; });
    const ended = expected(`${words.join(' ')} ends`);
    await new k8s.Exec(config).exec(namespace, pod, 'c', words, out, err, null, false, ended.done);
    return { status: await ended.promise, ...told };
  };
  const good = await command('p', ['echo', 'two words']);
  assert.equal(good.status.status, 'Success');
  assert.equal(good.out, 'two words\n');
  const bad = await command('p', ['preview1', 'exit', '42']);
  assert.equal(bad.status.status, 'Failure');
  assert.deepEqual(bad.status.details.causes.map((c) => [c.reason, c.message]), [['ExitCode', '42']]);

  const [forward, back] = [new PassThrough(), new PassThrough()];
  const answered = said(back, 'Hello from h');
  const socket = await new k8s.PortForward(config).portForward(namespace, 'h', [8080], back, null, forward);
  forward.write('GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n');
  assert((await answered).startsWith('HTTP/1.1 200'));
  socket.close();

  const [input, output] = [new PassThrough(), new PassThrough()];
  const heard = said(output, 'from outside');
  const attached = await new k8s.Attach(config).attach(namespace, 'box', 'c', output, null, input, false);
  input.write('echo from outside\n');
  await heard;
  attached.close();

  const log = new PassThrough();
  const followed = said(log, 'from outside');
  const following = await new k8s.Log(config).log(namespace, 'box', 'c', log, { follow: true });
  await followed;
  following.abort();
  assert.match(await core.readNamespacedPodLog({ name: 'box', namespace, tailLines: 1 }), /from outside/);
}

async function metrics() {
  const metrics = new k8s.Metrics(config);
  const end = Date.now() + 60_000;
  const measured = async (ask) => {
    for (;;) {
      const found = (await ask()).find(Boolean);
      if (found) return found;
      assert(Date.now() < end, 'nothing was measured');
      await pause(50);
    }
  };
  const node = await measured(async () => (await metrics.getNodeMetrics()).items);
  assert.match(node.usage.memory, /^\d+\w*$/);
  await measured(async () => (await metrics.getPodMetrics(namespace)).items.filter((p) => p.metadata.name === 'p'));
  const pod = (await k8s.topPods(core, metrics, namespace)).find((p) => p.Pod.metadata.name === 'p');
  assert.equal(pod.Containers[0].Container, 'c');
  assert(pod.Memory.CurrentUsage > 0);
  const [status] = await k8s.topNodes(core);
  assert(status.CPU.Capacity > 0 && status.Memory.Capacity > 0);
}

async function anything() {
  const client = k8s.KubernetesObjectApi.makeApiClient(config);
  const deployment = k8s.loadYaml(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: ${namespace}}
spec:
  replicas: 0
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec: {containers: [{name: c, image: 'file://examples/hello/hello.wasm'}]}
`);
  const made = await client.create(deployment);
  assert.equal(made.spec.replicas, 0);
  assert.equal((await client.read(deployment)).metadata.uid, made.metadata.uid);
  const labelled = structuredClone(deployment);
  labelled.metadata.labels = { team: 'a' };
  const apply = k8s.PatchStrategy.ServerSideApply;
  const applied = await client.patch(labelled, undefined, undefined, 'applier', true, apply);
  assert.equal(applied.metadata.labels.team, 'a');
  const listed = await client.list('apps/v1', 'Deployment', namespace);
  assert.deepEqual(listed.items.map((d) => d.metadata.name), ['d']);
  assert.equal((await apps.listNamespacedDeployment({ namespace, limit: 1 })).items[0].metadata.name, 'd');
  await client.delete(deployment);
  await refused(client.patch({ ...deployment, metadata: { name: 'none', namespace } }), 404);
}

await objects();
await informer();
await streams();
await metrics();
await anything();
console.log('all well');
process.exit(0);
