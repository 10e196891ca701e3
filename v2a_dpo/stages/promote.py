"""Stage: a version becomes champion if the gates hold against the present champion, on the same test clips."""

from __future__ import annotations

from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.registry.copies import copy_version
from v2a_dpo.registry.ledger import check_reason
from v2a_dpo.registry.promotion import Promotion, promote_version
from v2a_dpo.registry.versions import open_registry
from v2a_dpo.tracking.failures import failures_reported


def promote(
    params: Params,
    *,
    version: str = "candidate",
    override: bool = False,
    reason: str | None = None,
    to_registry: str | None = None,
    output: str | None = None,
    progress: Progress = silent,
) -> Promotion:
    """Makes `version` (a number or an alias) champion of `params.registry.model_name` if `params.gates` hold.

    It is compared with the champion and with the first champion, or with its own base while there is none. `override`
    promotes against the gates, and needs a `reason`; both are recorded. `to_registry`, the name of a registered
    model or `URI/name` on another server, gets a copy of the version first, compared with its own champion. The
    file `output` receives the outcome. A refusal is an outcome; raises LostRaceError when another promotion came in
    between, and UserError when there is no such version.
    """
    if override and reason is None:
        what = "An override needs a reason for the history."
        raise UserError(what, where="--override", remedy="Add --reason TEXT.")
    reason = "" if reason is None else check_reason(reason)
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri):
        stored = registry.version(version)
        if to_registry is not None:
            progress("Copying", 0, 1)
            registry, stored = copy_version(params, registry, stored, to=to_registry)
            progress("Copying", 1, 1)
    with failures_reported(registry.tracking.uri):
        promotion = promote_version(params, registry, stored, override=override, reason=reason)
    if output is not None:
        write_json(output, promotion.to_dict())
    return promotion
