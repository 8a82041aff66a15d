"""Redis' password: made once, and found again by every later upgrade.

Were it made anew, the services would get one that the Redis that runs does not know. What Helm asks
the cluster for is answered here by a server that knows that one secret, and which kinds there are.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml
from tests.rendered_chart import CHART, RELEASE, Manifest, helm, of_kind, render

SECRET = "/api/v1/namespaces/ns/secrets/corral-redis"


def test_the_first_install_makes_a_password_that_the_next_one_finds_and_keeps() -> None:
    first = secret(rendered_with({}))
    assert len(first["password"]) == 32

    assert secret(rendered_with({SECRET: encoded(first)})) == first


def test_two_installations_have_different_passwords() -> None:
    assert secret(rendered_with({})) != secret(rendered_with({}))


def test_the_address_carries_the_password_and_leads_to_the_service_of_redis() -> None:
    found = secret(rendered_with({}))
    assert found["url"] == f"redis://:{found['password']}@corral-redis:6379/0"


def test_a_secret_of_the_user_is_used_and_none_is_made() -> None:
    manifests = render("", "redis.auth.existingSecret=mine")
    assert not of_kind(manifests, "Secret")
    text = json.dumps(manifests)
    assert '"key": "url", "name": "mine"' in text
    assert '"key": "password", "name": "mine"' in text


def secret(manifests: list[Manifest]) -> dict[str, str]:
    data = of_kind(manifests, "Secret")["corral-redis"]["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def encoded(values: dict[str, str]) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    # What Helm leaves on its own: by this it knows it again, after an uninstall too.
    metadata = {
        "name": "corral-redis",
        "namespace": "ns",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "meta.helm.sh/release-name": RELEASE,
            "meta.helm.sh/release-namespace": "ns",
        },
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def rendered_with(objects: dict[str, dict[str, Any]]) -> list[Manifest]:
    """What helm would apply to a cluster that holds these objects, by path."""
    with api_server({**discovery(render()), **objects}) as address:
        command = ("template", RELEASE, str(CHART), "--namespace", "ns", "--dry-run=server")
        # Not the kubeconfig of whoever runs this.
        cluster = ("--kubeconfig", os.devnull, "--kube-apiserver", address)
        done = helm(*command, "--disable-openapi-validation", *cluster)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def discovery(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """The API's own description of itself, for the kinds of some manifests."""
    kinds: dict[str, set[str]] = {}
    for manifest in manifests:
        kinds.setdefault(manifest["apiVersion"], set()).add(manifest["kind"])
    groups = [
        {"name": version.partition("/")[0], "versions": [described], "preferredVersion": described}
        for version in kinds
        if "/" in version
        for described in [{"groupVersion": version, "version": version.partition("/")[2]}]
    ]
    answers: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for version, names in kinds.items():
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = [
            {"name": plural(name), "kind": name, "namespaced": True, "verbs": ["get"]}
            for name in sorted(names)
        ]
        answers[path] = {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": resources,
        }
    return answers


def plural(kind: str) -> str:
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


@contextmanager
def api_server(answers: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The address of a server that knows these paths, and no others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}
            body = json.dumps(found or missing).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
