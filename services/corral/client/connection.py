"""Connection: one method for each call of Corral's services, protobuf messages in and out.

Every call has a deadline and fails with a CorralError that names the server. `corral.Client` is made
of it. Knows nothing of terminals: progress and reconnections go to callbacks.
"""

from __future__ import annotations

from corral.client.datasets import DatasetCalls
from corral.client.jobs import JobCalls
from corral.client.models import ModelCalls


class Connection(DatasetCalls, JobCalls, ModelCalls):
    """All calls. Use as a context manager, or call `close`."""
