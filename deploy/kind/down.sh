#!/usr/bin/env bash
# Removes the kind cluster, and everything in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/kind/common.sh
source deploy/kind/common.sh
need kind
kind delete cluster --name "$CLUSTER"
