"""Clients of the lab (lab.rs), to be run on one of its machines. What they have seen they print as JSON, a line each.

lines HOST PORT TEXT          one line there and back over TCP
datagram HOST PORT TEXT       the same over UDP, up to five times
ask HOST PORT TEXT            one line over TCP, and its answer, however long it takes
talk HOST PORT SECONDS        numbered lines over one TCP connection about so often, whether they are echoed or not, until standard
                              input ends; then the rest of the echoes is awaited
converse HOST PORT SECONDS    the same by datagrams, of which some may be lost
probe URL HOST SECONDS        GETs a URL about so often, on a connection of its own each time, until standard input ends
write KUBECONFIG NAME URL…    makes objects at the first URL, and reads each one back from the others, until standard input ends
churn KUBECONFIG NAME SECONDS URL…  makes, reads, changes and deletes objects about so often, a hundred at a time, at the first URL and
                              reading from the others, until standard input ends; then looks for those that must be there
rollout KUBECONFIG NAME SECONDS URL…  scales a Deployment and gives it new pods in turns, about so often, until standard input ends
jobs KUBECONFIG NAME SECONDS URL…  makes Jobs that go by themselves, about so often, at the URLs in turns, until standard input ends
list KUBECONFIG URL           configmaps, services and ipaddresses, as one server tells it: by RESOURCE/NAMESPACE/NAME
"""

import base64
import http.client
import json
import random
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from urllib.parse import urlsplit

# How long a request may take before its client gives up, in seconds.
PATIENCE = 5.0
# The same for a prober: less than the five seconds in which nodes try to connect to each other.
PROBE_PATIENCE = 3.0
over = threading.Event()


def say(**what):
    print(json.dumps(what), flush=True)


def until_the_input_ends():
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()


def why(error):
    return f"{type(error).__name__}: {error}"


def lines(host, port, text):
    with socket.create_connection((host, int(port)), PATIENCE) as stream:
        stream.sendall(text.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            piece = stream.recv(4096)
            if not piece:
                break
            answer += piece
    print(answer.decode().rstrip("\n"))


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def datagram(host, port, text):
    with socket.socket(family(host), socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.connect((host, int(port)))
        for _ in range(5):
            s.send(text.encode())
            try:
                print(s.recv(1500).decode())
                return
            except (TimeoutError, ConnectionError):
                pass
    sys.exit("no answer")


def ask(host, port, text):
    until_the_input_ends()
    try:
        with socket.create_connection((host, int(port)), PATIENCE) as stream:
            stream.settimeout(None)
            stream.sendall(text.encode() + b"\n")
            answer = stream.makefile().readline().rstrip("\n") or "closed"
    except OSError as error:
        answer = why(error)
    say(at=time.time(), answer=answer)
    over.wait()


def numbered(n):
    # Of many lengths, so that they are cut anywhere on their way.
    return f"{n} {'.' * (n * 37 % 1000)}\n".encode()


def talk(host, port, seconds):
    until_the_input_ends()
    ended, speaking, broken, sent = threading.Event(), threading.Lock(), [], 0
    try:
        stream = socket.create_connection((host, int(port)), PATIENCE)
    except OSError as error:
        say(at=time.time(), ended=why(error))
        over.wait()
        return
    # It is the other side that has to say that it is over.
    stream.settimeout(None)

    def hear():
        heard = 0
        try:
            for line in stream.makefile("rb"):
                heard += 1
                if line == numbered(heard):
                    say(at=time.time(), heard=heard)
                else:
                    say(at=time.time(), wrong=f"{line[:100]!r} instead of line {heard}")
            # An error is told once, to whoever comes first.
            with speaking:
                how = broken[0] if broken else "closed"
        except OSError as error:
            how = why(error)
        say(at=time.time(), ended=how)
        ended.set()

    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    while not over.is_set() and not ended.is_set() and not broken:
        with speaking:
            try:
                stream.sendall(numbered(sent + 1))
                sent += 1
            except OSError as error:
                broken.append(why(error))
        over.wait(float(seconds))
    over.wait()
    try:
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    hearing.join(PATIENCE)
    say(at=time.time(), sent=sent)


def converse(host, port, seconds):
    until_the_input_ends()
    with socket.socket(family(host), socket.SOCK_DGRAM) as s:
        s.connect((host, int(port)))
        heard, sent = set(), 0
        while not over.is_set():
            end = time.time() + float(seconds)
            sent += 1
            try:
                s.send(numbered(sent))
            except OSError:
                # What was said of an earlier one.
                pass
            while (left := end - time.time()) > 0:
                s.settimeout(left)
                try:
                    said = s.recv(2048)
                except TimeoutError:
                    break
                except OSError:
                    continue
                n = next((n for n in range(sent, 0, -1) if numbered(n) == said), None)
                if n is None or n in heard:
                    say(at=time.time(), wrong=f"{said[:100]!r}")
                else:
                    heard.add(n)
                    say(at=time.time(), heard=n)
        say(at=time.time(), sent=sent)


def probe(url, host, seconds):
    until_the_input_ends()
    at = urlsplit(url)
    while not over.is_set():
        begun = time.time()
        try:
            connection = http.client.HTTPConnection(at.hostname, at.port, timeout=PROBE_PATIENCE)
            connection.request("GET", f"{at.path}?{at.query}", headers={"Host": host})
            answer = connection.getresponse()
            code, said = answer.status, answer.read().decode(errors="replace")
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            code, said = 0, why(error)
        took = time.time() - begun
        say(at=begun, took=took, good=code == 200, code=code, said=said.split("\n")[0])
        # Several of them must not fall into step: their requests would meet the same endpoints again and again.
        over.wait(max(0, float(seconds) * random.uniform(0.5, 1.5) - took))


class Api:
    """One server, by a kept connection with the credentials of a kubeconfig."""

    def __init__(self, context, url, patience=PATIENCE):
        self.context, self.url, self.patience, self.connection = context, urlsplit(url), patience, None

    def call(self, method, path, body=None, kind="application/json"):
        """(code, body); code 0 if nobody has answered, and then whether it has happened is not known."""
        try:
            if self.connection is None:
                at = self.url
                self.connection = http.client.HTTPSConnection(
                    at.hostname, at.port, timeout=self.patience, context=self.context
                )
            text = None if body is None else json.dumps(body)
            self.connection.request(method, path, text, {"Content-Type": kind})
            answer = self.connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            return 0, why(error)


def credentials(kubeconfig):
    with open(kubeconfig) as file:
        text = file.read()

    def file_of(field):
        found = re.search(rf'{field}: *"?([A-Za-z0-9+/=]+)', text)
        file = tempfile.NamedTemporaryFile()
        file.write(base64.b64decode(found[1]))
        file.flush()
        return file

    ca, cert, key = map(file_of, ["certificate-authority-data", "client-certificate-data", "client-key-data"])
    context = ssl.create_default_context(cafile=ca.name)
    context.load_cert_chain(cert.name, key.name)
    return context


RESOURCES = {kind: f"/api/v1/namespaces/default/{kind}" for kind in ["configmaps", "services"]}


def write(kubeconfig, name, *urls):
    until_the_input_ends()
    context = credentials(kubeconfig)
    # One that does not answer a read must not keep the writer for long.
    own, readers, n = Api(context, urls[0]), [Api(context, url, 0.5) for url in urls[1:]], 0
    while not over.is_set():
        n += 1
        # A Service takes an address, so that several things must happen or none.
        kind = "configmaps" if n % 5 else "services"
        object_name = f"{name}-{n}"
        body = {"metadata": {"name": object_name}}
        body |= {"data": {"padding": "x" * 512}} if n % 5 else {"spec": {"ports": [{"port": 80}]}}
        begun = time.time()
        code, said = own.call("POST", RESOURCES[kind], body)
        say(wrote=f"{kind}/default/{object_name}", begun=begun, at=time.time(), code=code, said="" if code == 201 else said[:300])
        if code != 201:
            # Nobody is helped by a hundred refusals a second.
            over.wait(0.05)
            continue
        # What is acknowledged is there, whoever is asked.
        server = readers[n % len(readers)]
        code, said = server.call("GET", f"{RESOURCES[kind]}/{object_name}")
        say(read=object_name, of=server.url.netloc, at=time.time(), code=code, said="" if code == 200 else said[:300])


def timed(api, method, path, *more):
    begun = time.time()
    code, said = api.call(method, path, *more)
    # A sample is good with 200, whatever the verb's own success is.
    good = code in (200, 201)
    say(at=begun, took=time.time() - begun, code=200 if good else code, said="" if good else said[:300])
    return code


def churn(kubeconfig, name, seconds, *urls):
    until_the_input_ends()
    context, live, n = credentials(kubeconfig), [], 0
    own, readers = Api(context, urls[0]), [Api(context, url) for url in urls[1:]]
    path = RESOURCES["configmaps"]
    while not over.is_set():
        begun, n = time.time(), n + 1
        body = {"metadata": {"name": f"{name}-{n}"}, "data": {"padding": "x" * 1024}}
        if timed(own, "POST", path, body) == 201:
            live.append(f"{name}-{n}")
            timed(readers[n % len(readers)], "GET", f"{path}/{live[-1]}")
        if live:
            change = {"data": {"changed": str(n)}}
            timed(own, "PATCH", f"{path}/{live[n % len(live)]}", change, "application/merge-patch+json")
        if len(live) > 100:
            # Whether it is gone after an answer that nobody got is not known; it is not looked for.
            timed(own, "DELETE", f"{path}/{live.pop(0)}")
        over.wait(max(0, float(seconds) * random.uniform(0.5, 1.5) - (time.time() - begun)))
    for object_name in live:
        for server in [own, *readers]:
            code, said = server.call("GET", f"{path}/{object_name}")
            say(read=object_name, of=server.url.netloc, at=time.time(), code=code, said="" if code == 200 else said[:300])


def rollout(kubeconfig, name, seconds, *urls):
    until_the_input_ends()
    context, n = credentials(kubeconfig), 0
    path = f"/apis/apps/v1/namespaces/default/deployments/{name}"
    while not over.is_set():
        n += 1
        new = {"template": {"metadata": {"annotations": {"turn": str(n)}}}}
        change = {"spec": {"replicas": random.randint(3, 9)} if n % 2 else new}
        # By a connection of its own: a server closes one on which nothing comes for so long.
        timed(Api(context, urls[n % len(urls)]), "PATCH", path, change, "application/merge-patch+json")
        over.wait(float(seconds) * random.uniform(0.5, 1.5))


def jobs(kubeconfig, name, seconds, *urls):
    until_the_input_ends()
    context, n = credentials(kubeconfig), 0
    container = {"name": "c", "image": "file://examples/preview1/preview1.wasm"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    while not over.is_set():
        n += 1
        job = {"metadata": {"name": f"{name}-{n}"}, "spec": {"ttlSecondsAfterFinished": 20, "template": template}}
        timed(Api(context, urls[n % len(urls)]), "POST", "/apis/batch/v1/namespaces/default/jobs", job)
        over.wait(float(seconds) * random.uniform(0.5, 1.5))


def list_all(kubeconfig, url):
    server, found = Api(credentials(kubeconfig), url), {}
    # Addresses belong to no namespace: those of all Services are looked at.
    networking = "/apis/networking.k8s.io/v1/ipaddresses"
    for kind, path in [("configmaps", RESOURCES["configmaps"]), ("services", "/api/v1/services"), ("ipaddresses", networking)]:
        code, said = server.call("GET", path)
        if code != 200:
            sys.exit(f"{url}: {code} {said[:300]}")
        for item in json.loads(said)["items"]:
            about = item["metadata"]
            found[f"{kind}/{about.get('namespace', '')}/{about['name']}"] = item
    say(**found)


commands = {"lines": lines, "datagram": datagram, "ask": ask, "talk": talk, "converse": converse}
commands |= {"probe": probe, "write": write, "list": list_all}
commands |= {"churn": churn, "rollout": rollout, "jobs": jobs}
commands[sys.argv[1]](*sys.argv[2:])
