"""A rank does not wait for ever for one that has died."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from corral.training.peers import PeerWatch


def test_a_rank_leaves_once_a_peer_has_died() -> None:
    left = threading.Event()
    peer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = PeerWatch({1: peer.pid}, left.set, grace_seconds=0.01).start()
    peer.kill()
    peer.communicate()
    assert left.wait(30)
    watch.rest()


def test_a_rank_whose_run_is_over_lets_its_peers_go() -> None:
    left = threading.Event()
    peer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = PeerWatch({1: peer.pid}, left.set, grace_seconds=0.01).start()
    watch.rest()
    peer.kill()
    peer.communicate()
    watch.join()
    assert not left.is_set()
