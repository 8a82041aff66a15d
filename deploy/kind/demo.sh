#!/usr/bin/env bash
# `make demo` against the Corral in the kind cluster, through port-forwards.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/kind/common.sh
source deploy/kind/common.sh
need kubectl

# The trainer tells clients only inference's port, so both must have their own here too.
forwards=()
trap 'kill "${forwards[@]}" 2>/dev/null || true' EXIT
for service in trainer:7470 inference:7471; do
    in_cluster kubectl port-forward "service/$RELEASE-${service%:*}" "${service#*:}" >/dev/null &
    forwards+=($!)
done

for port in 7470 7471; do
    for ((tries = 0; ; tries++)); do
        .venv/bin/python -m corral.rpc.health "127.0.0.1:$port" 2>/dev/null && break
        ((tries < 60)) || die "nothing answers on port $port; see: kubectl --context kind-$CLUSTER --namespace $NAMESPACE get pods"
        sleep 1
    done
done
.venv/bin/python examples/demo.py --server 127.0.0.1:7470
