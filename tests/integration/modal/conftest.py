"""The double, its client and what is deployed on it, for every test here. Without modal, no tests."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = []

if find_spec("modal") is None:
    collect_ignore_glob.append("test_*.py")
else:
    from tests.modal_builders import client, deployments, double

    __all__ = ["client", "deployments", "double"]
