"""Stage: the walk from a registered version back to the shards, the code and the parameters behind it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from v2a_dpo.config import Params
from v2a_dpo.registry.copies import open_registry
from v2a_dpo.registry.evidence import LINEAGE, download_evidence
from v2a_dpo.registry.lineage import Lineage
from v2a_dpo.tracking.failures import failures_reported


def lineage_of(params: Params, version: str) -> tuple[str, Lineage]:
    """A title for `version` (a number or an alias), and what it was made from, as it was recorded at its registration."""
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri), TemporaryDirectory() as temporary:
        chosen = registry.version(version)
        folder = download_evidence(registry, chosen, Path(temporary))
        lineage = Lineage.from_text((folder / LINEAGE).read_text(encoding="utf-8"))
    return f"{registry.name} version {chosen.version} ({chosen.role})", lineage
