"""The small official files of tests/weights, for the commands about them."""

from tests.weights.conftest import catalog, published, server, store

__all__ = ["catalog", "published", "server", "store"]
