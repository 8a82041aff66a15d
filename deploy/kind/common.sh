# What the scripts beside this one share. Sourced, with the repository's root as working directory.
# shellcheck shell=bash disable=SC2034

CLUSTER=${CORRAL_KIND_CLUSTER:-corral}
TAG=${CORRAL_TAG:-latest}
NAMESPACE=corral
RELEASE=corral
IMAGES=("corral-trainer:$TAG" "corral-gateway:$TAG" "corral-inference:$TAG" "corral-train:$TAG")

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || die "$program is not on the PATH"
    done
}

in_cluster() {
    local program=$1
    shift
    case $program in
        kubectl) kubectl --context "kind-$CLUSTER" --namespace "$NAMESPACE" "$@" ;;
        helm) helm --kube-context "kind-$CLUSTER" --namespace "$NAMESPACE" "$@" ;;
        *) die "in_cluster: $program" ;;
    esac
}
