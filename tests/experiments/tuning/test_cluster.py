"""A cluster that cannot be joined is told within seconds, in one line that names RAY_ADDRESS."""

import socket
import time

import pytest

from common.errors import InputError
from experiments.tuning import cluster
from experiments.tuning.cluster import join_cluster


@pytest.mark.parametrize("address", ["nonsense", "host", "host:", ":6379", "host:0", "host:99999", "http://host/x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match=r"^RAY_ADDRESS is '.*', which is no address: give host:port"):
        join_cluster(address)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "host.invalid:6379", "ray://127.0.0.1:9"])
def test_address_at_which_nothing_listens_is_refused_at_once(address):
    start = time.monotonic()
    with pytest.raises(InputError, match=f"^RAY_ADDRESS is {address}, which cannot be joined"):
        join_cluster(address)
    assert time.monotonic() - start < 10


def test_what_listens_and_is_no_cluster_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(cluster, "_JOINED_S", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(InputError, match=r"no cluster answers within 6 s"):
            join_cluster(address)
        assert time.monotonic() - start < 12


@pytest.mark.parametrize("reason", ["Version mismatch: The cluster was started with: Ray: 2.9", "Could not find any"])
def test_what_ray_says_is_told(monkeypatch, reason):
    monkeypatch.setattr(cluster, "_JOIN", f"import sys; sys.exit('noise\\nreason: {reason}. And advice')")
    with pytest.raises(InputError, match=rf"^RAY_ADDRESS is auto, which cannot be joined \({reason}\)"):
        join_cluster("auto")
