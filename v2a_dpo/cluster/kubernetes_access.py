"""The way to Kubernetes: the kubeconfig or, inside the cluster, the pod's service account."""

from __future__ import annotations

import os

from kubernetes import client, config

from v2a_dpo.errors import UserError


def api_client(*, retries: bool = True) -> client.ApiClient:
    """A client of the Kubernetes API that is logged in; raises UserError without a kubeconfig or service account.

    Without `retries` the client reports every failed connection at once, for callers that try again themselves.
    """
    settings = client.Configuration()
    if not retries:
        settings.retries = False
    try:
        try:
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
        except config.ConfigException:
            config.load_incluster_config(client_configuration=settings)
    except config.ConfigException as error:
        remedy = "Run inside the cluster, or name a kubeconfig in KUBECONFIG."
        raise UserError("There is no access to Kubernetes.", where="kubeconfig", remedy=remedy) from error
    return client.ApiClient(settings)
