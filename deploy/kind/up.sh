#!/usr/bin/env bash
# A kind cluster with this Corral in it. Run again, it brings the cluster's Corral up to date.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/kind/common.sh
source deploy/kind/common.sh
need docker kind kubectl helm

for image in "${IMAGES[@]}"; do
    docker image inspect "$image" >/dev/null 2>&1 || die "there is no image $image: build the images first (make images)"
done

if ! kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; then
    kind create cluster --name "$CLUSTER" --config deploy/kind/cluster.yaml --wait 2m
fi
kind load docker-image --name "$CLUSTER" "${IMAGES[@]}"

kubectl --context "kind-$CLUSTER" create namespace "$NAMESPACE" --dry-run=client --output yaml |
    kubectl --context "kind-$CLUSTER" apply --filename -
kubectl --context "kind-$CLUSTER" label --overwrite namespace "$NAMESPACE" \
    pod-security.kubernetes.io/enforce=restricted
in_cluster helm upgrade --install "$RELEASE" charts/corral \
    --values charts/corral/examples/laptop-kind.yaml --set-string "image.tag=$TAG" \
    --wait --timeout 10m
# An image that was rebuilt under the same tag changes no manifest.
in_cluster kubectl rollout restart deployment
in_cluster kubectl rollout status deployment --timeout 5m
in_cluster helm test "$RELEASE"
