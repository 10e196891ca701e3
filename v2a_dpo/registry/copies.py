"""Copies of a version in another registered model, on the same MLflow server or on a second one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.registry.evidence import CARD, EVIDENCE_TAG, FOLDER, download_evidence
from v2a_dpo.registry.versions import ModelFolder, Registry, StoredVersion, open_registry
from v2a_dpo.tracking.failures import failures_reported, public_uri

#: Tags of a copy: where it comes from.
COPIED_FROM, COPIED_VERSION = "copied.from", "copied.version"
#: Tags not copied: they describe the source registry.
_LOCAL_TAGS = ("promotion.refused",)


def copy_version(
    params: Params, source: Registry, version: StoredVersion, *, to: str
) -> tuple[Registry, StoredVersion]:
    """The registry that `to` names (`name`, or `URI/name` on another server), and the copy of `version` there.

    The copy has the tags, the evidence and the lineage; an existing copy is returned.
    """
    uri, _, name = to.rpartition("/")
    if not name or (uri and "://" not in uri):
        remedy = "Give the name of a registered model, or its server's address in front: http://HOST:PORT/NAME."
        raise UserError(f"{to!r} names no registry.", where="--to-registry", remedy=remedy)
    same_server = not uri or uri == source.tracking.uri
    target = Registry(source.tracking, name) if same_server else open_registry(params, uri=uri, name=name)
    with failures_reported(target.tracking.uri):
        if target.find(version.fingerprint, version.role) is None:
            target.copy_from(version, source.name) if same_server else _transfer(source, version, target)
        copied = target.find(version.fingerprint, version.role)
        if copied is None:
            raise UserError(f"The copy of version {version.version} is not in {name}.", where=to, remedy="Try again.")
        origin = f"{public_uri(source.tracking.uri)}/{source.name}"
        target.set_tags(copied.version, {COPIED_FROM: origin, COPIED_VERSION: version.version})
        return target, target.version(copied.version)


def _transfer(source: Registry, version: StoredVersion, target: Registry) -> None:
    """Sends files, evidence and tags of `version` to another server, into a new run that holds the evidence."""
    with TemporaryDirectory() as temporary:
        with failures_reported(source.tracking.uri):
            files = source.download(version, Path(temporary) / "model")
            evidence = download_evidence(source, version, Path(temporary) / "evidence")
        name = f"{source.name} version {version.version}"
        with target.tracking.run(name, fingerprint=version.fingerprint) as run:
            for file in sorted(evidence.iterdir()):
                run.log_file(file, f"{FOLDER}/{version.role}")
            model = ModelFolder(files, version.fingerprint, version.role)
            model_id = target.log_model(model, run_id=run.run_id)
        tags = {key: value for key, value in version.tags.items() if key not in _LOCAL_TAGS}
        card = (evidence / CARD).read_text(encoding="utf-8")
        target.register(
            model, model_id=model_id, run_id=run.run_id, tags={**tags, EVIDENCE_TAG: run.run_id}, description=card
        )
