"""A Kubernetes API server of the test's own, and the way to it."""

import pytest

from tests.cluster.train_job.api_server import ApiServer


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ApiServer() as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running
