"""Download and import in one go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.weights.small_files import SMALL
from v2a_dpo.errors import UserError
from v2a_dpo.weights.catalog import FILES
from v2a_dpo.weights.fetching import fetch


def test_a_fetched_file_is_imported_and_its_download_deleted(server, published, catalog, store, patience):
    server.content = published["net_small"].read_bytes()
    catalog(replace(FILES["net_small"], url=server.url()))
    record = fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert record.trust == "published checksum"
    assert set(store.state("net_small")) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert list(store.downloads().iterdir()) == []


def test_a_file_that_is_there_is_not_fetched_again(server, published, catalog, store, patience):
    server.content = published["net_small"].read_bytes()
    catalog(replace(FILES["net_small"], url=server.url()))
    first = fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert fetch("net_small", store, accept_noncommercial=True, patience=patience) == first
    assert len(server.asked) == 1


def test_a_wrong_file_is_deleted_so_that_the_next_fetch_is_fresh(server, published, catalog, store, patience):
    server.content = b"<html>moved</html>" * 100
    catalog(replace(FILES["net_small"], url=server.url()))
    with pytest.raises(UserError, match="checksum differs"):
        fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert list(store.downloads().iterdir()) == []
    server.content, server.tag = published["net_small"].read_bytes(), '"2"'
    assert fetch("net_small", store, accept_noncommercial=True, patience=patience).tensors == 4


def test_nothing_is_asked_of_the_server_before_the_licence_is_accepted(server, catalog, store):
    catalog(replace(SMALL, url=server.url()))
    with pytest.raises(UserError, match="non-commercial") as caught:
        fetch("net_small", store)
    assert "--accept-noncommercial" in caught.value.remedy
    assert server.asked == []


def test_a_download_that_waits_for_its_import_is_not_fetched_again(server, published, catalog, store, patience):
    catalog(replace(FILES["net_small"], url=server.url()))
    store.downloads().mkdir(parents=True)
    published["net_small"].rename(store.downloads() / "net_small.pth")
    record = fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert record.parameters == sum(value.numel() for value in store.state("net_small").values())
    assert server.asked == []
    assert torch.isfinite(store.state("net_small")["0.weight"]).all()
