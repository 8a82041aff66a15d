"""Who may do what: every right on the API and every way through the network, with its reason.

These are whole lists. A right or a way more is a change to be made here too, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.rendered_chart import Manifest, containers, environment, of_kind, render

HUB = "the public Internet"


def test_the_rights_of_the_dispatcher() -> None:
    manifests = render()
    (role,) = of_kind(manifests, "Role").values()
    rights = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights == {
        # A run begins. Under a name of its own: a second time is a conflict, not a second run.
        ("jobs", "create"),
        # A run that was started before this worker was.
        ("jobs", "get"),
        # One list and one watch tell how all runs go.
        ("jobs", "list"),
        ("jobs", "watch"),
        # A run is stopped, or its end is recorded and it is cleared away. Never patch, never update.
        ("jobs", "delete"),
        # Why a pod waits, and how its containers ended.
        ("pods", "get"),
        ("pods", "list"),
        ("pods", "watch"),
        # What a pod said that could not write to the volume.
        ("pods/log", "get"),
    }
    assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"batch", ""}
    (binding,) = of_kind(manifests, "RoleBinding").values()
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == ("corral-dispatcher", "ns")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert not of_kind(manifests, "ClusterRole")


def test_local_workers_have_no_right_at_all() -> None:
    manifests = render("one-gpu-node")
    assert not of_kind(manifests, "Role")
    assert set(of_kind(manifests, "ServiceAccount")) == {"corral"}


def test_everything_is_closed_at_first() -> None:
    policy = of_kind(render(), "NetworkPolicy")["corral-default-deny"]["spec"]
    assert policy == {
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/name": "corral",
                "app.kubernetes.io/instance": "corral",
            }
        },
        "policyTypes": ["Ingress", "Egress"],
    }


def test_the_ways_with_a_dispatcher() -> None:
    assert ways(render()) == {
        # Clients send data sets and jobs, and chat. `helm test` does what a client does.
        "namespace -> trainer:7470",
        "namespace -> inference:7471",
        "test -> trainer:7470",
        "test -> inference:7471",
        # Browsers and OpenAI's clients; the gateway does what a client does, and nothing else.
        "namespace -> web:7472",
        "test -> web:7472",
        "web -> trainer:7470",
        "web -> inference:7471",
        "monitoring -> web:9464",
        # Prometheus.
        "monitoring -> trainer:9464",
        "monitoring -> inference:9464",
        "monitoring -> worker:9464",
        # Jobs, events and publications. Not the training pods: they write files.
        "trainer -> redis:6379",
        "inference -> redis:6379",
        "worker -> redis:6379",
        # The dispatcher alone talks to the API server, whose address no policy can know beforehand.
        "worker -> anywhere:443",
        "worker -> anywhere:6443",
        # torchrun's rendezvous and NCCL's ports, between the nodes of a run.
        "training -> training:any",
        # Names: Redis, the headless service, the model hub. Redis itself asks for none.
        *names_for("trainer", "inference", "web", "worker", "training", "test"),
        # Base models: the trainer fetches tokenizers, the other two weights.
        f"trainer -> {HUB}:443",
        f"inference -> {HUB}:443",
        f"training -> {HUB}:443",
    }


def test_the_ways_with_local_workers() -> None:
    local, dispatched = ways(render("one-gpu-node")), ways(render())
    # The worker trains itself: it fetches base models, and never asks the API server.
    assert local - dispatched == {f"worker -> {HUB}:443"}
    assert {way for way in dispatched - local if "training" not in way} == {
        "worker -> anywhere:443",
        "worker -> anywhere:6443",
    }
    assert not [way for way in local if "training" in way]


def test_the_ways_with_modal() -> None:
    there, dispatched = ways(render("modal")), ways(render())
    # Its API and its stores of files. The cluster trains nothing, so nobody asks the API server.
    assert there - dispatched == {f"worker -> {HUB}:443"}
    assert {way for way in dispatched - there if "training" not in way} == {
        "worker -> anywhere:443",
        "worker -> anywhere:6443",
    }
    assert not of_kind(render("modal"), "Role")
    beside = ways(render("", "modal.existingSecret=token"))
    assert beside - dispatched == {f"worker -> {HUB}:443"}
    assert dispatched <= beside


def test_the_worker_alone_has_the_secret_of_modals_token() -> None:
    for manifests in (render("modal"), render("", "modal.existingSecret=corral-modal")):
        found = {
            (name, variable)
            for name, container in containers(manifests)
            for variable, value in environment(container).items()
            if isinstance(value, dict)
            and value.get("secretKeyRef", {}).get("name") == "corral-modal"
        }
        assert found == {
            ("worker", "MODAL_TOKEN_ID"),
            ("worker", "MODAL_TOKEN_SECRET"),
            # Says that there is a token; plans and prices come from a table.
            ("trainer", "MODAL_TOKEN_ID"),
        }


def test_without_the_hub_training_pods_reach_only_each_other_and_dns() -> None:
    closed = ways(render("", "modelHub.enabled=false"))
    assert not [way for way in closed if HUB in way]
    assert {way for way in closed if way.startswith("training ->")} == {
        "training -> training:any",
        *names_for("training"),
    }


def test_the_way_to_an_external_redis() -> None:
    found = {way for way in ways(render("existing-redis")) if "6380" in way or "6379" in way}
    assert found == {
        "trainer -> 10.20.0.0/16:6380",
        "inference -> 10.20.0.0/16:6380",
        "worker -> 10.20.0.0/16:6380",
    }


# ---------------------------------------------------------------- policies as sentences


def names_for(*components: str) -> set[str]:
    """Two addresses: the cluster's DNS, and the cache of it that many clusters have on each node."""
    return {
        f"{one} -> {place}:53"
        for one in components
        for place in ("kube-system", "169.254.20.10/32")
    }


def ways(manifests: list[Manifest]) -> set[str]:
    """All that NetworkPolicies open, as "from -> to:port". What both ends say is said once."""
    found = set()
    for policy in of_kind(manifests, "NetworkPolicy").values():
        spec = policy["spec"]
        own = spec["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "everything")
        for rule in spec.get("ingress", ()):
            found |= {
                f"{peer} -> {own}:{port}" for peer in peers(rule["from"]) for port in ports(rule)
            }
        for rule in spec.get("egress", ()):
            found |= {
                f"{own} -> {peer}:{port}" for peer in peers(rule["to"]) for port in ports(rule)
            }
    return found


def ports(rule: dict[str, Any]) -> set[str]:
    return {str(one["port"]) for one in rule["ports"]} if "ports" in rule else {"any"}


def peers(given: list[dict[str, Any]]) -> Iterator[str]:
    for peer in given:
        if "ipBlock" in peer:
            yield HUB if "except" in peer["ipBlock"] else _network(peer["ipBlock"]["cidr"])
        elif "namespaceSelector" in peer:
            yield peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        elif not peer["podSelector"]:
            yield "namespace"
        else:
            (expression,) = peer["podSelector"]["matchExpressions"]
            assert expression["operator"] == "In"
            yield from expression["values"]


def _network(cidr: str) -> str:
    return "anywhere" if cidr == "0.0.0.0/0" else cidr
