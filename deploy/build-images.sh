#!/usr/bin/env bash
# Builds the four images, corral-<target>:$CORRAL_TAG. Where BuildKit is there, what pip downloads is
# kept between builds: the cache mounts are added here, since the classic builder refuses a Dockerfile
# with one in it. TORCH, TORCH_INDEX, WITH_SMOLLM2 and PYTHON_IMAGE are passed on where they are set.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${CORRAL_TAG:-latest}
version=$(sed -nE 's/^__version__ = "(.*)"/\1/p' services/corral/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || true)

options=(--label "org.opencontainers.image.version=$version")
options+=(--label "org.opencontainers.image.revision=$revision")
for name in TORCH TORCH_INDEX WITH_SMOLLM2 PYTHON_IMAGE; do
    if [[ -n ${!name:-} ]]; then options+=(--build-arg "$name=${!name}"); fi
done

dockerfile() {
    if [[ ${DOCKER_BUILDKIT:-1} != 0 ]] && docker buildx version >/dev/null 2>&1; then
        sed -E 's|^RUN (pip .*)--no-cache-dir |RUN --mount=type=cache,target=/root/.cache/pip \1|' deploy/Dockerfile
    else
        cat deploy/Dockerfile
    fi
}

for target in trainer gateway inference train; do
    dockerfile | docker build --target "$target" --tag "corral-$target:$tag" "${options[@]}" --file - .
done
