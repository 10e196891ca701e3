"""How the candidates of two systems were made, by what they say themselves, and whether they may be compared.

A paired difference speaks of two models only where everything else is the same. What differs is refused, or, where
the user allows it by name, told in every table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.errors import UserError

#: Columns of candidates that are the same for all of a system's clips, with what they are called in a sentence.
SETTINGS = {
    "steps": "sampling steps",
    "guidance_scale": "guidance scale",
    "use_text": "text switch",
    "sample_rate": "sample rate",
}
#: All that must agree between two systems.
TITLES = {"clips": "clips", "conditions": "conditions", "seed": "seeds", **SETTINGS}


@dataclass(frozen=True)
class Sampling:
    """How the candidates (sample 0) in `folder` were made.

    `conditions` is the fingerprint of what they were made for ("" where nobody recorded it), `tried` are the clips with
    a candidate or in quarantine, `seeds` maps a clip with a candidate to its seed, and `settings` has the keys of
    SETTINGS.
    """

    folder: str
    conditions: str
    tried: frozenset[str]
    seeds: Mapping[str, int]
    settings: Mapping[str, Any]


def sampling_of(candidates: Dataset) -> Sampling:
    """How `candidates` were made; raises UserError where `only_value` does."""
    table = candidates.table(["clip_id", "sample", "seed", *SETTINGS])
    table = table.filter(pc.equal(table.column("sample"), 0))
    clip_ids: list[str] = table.column("clip_id").to_pylist()
    return Sampling(
        candidates.folder,
        candidates.manifest.inputs.get("conditions", ""),
        frozenset(clip_ids) | frozenset(candidates.quarantine().column("clip_id").to_pylist()),
        dict(zip(clip_ids, table.column("seed").to_pylist(), strict=True)),
        {key: only_value(table.column(key), key, candidates.folder) for key in SETTINGS},
    )


def only_value(column: pa.ChunkedArray, key: str, folder: str) -> Any:
    """The value of the setting `key` that all candidates in `folder` have; raises UserError when there is not just
    one."""
    values = column.unique()
    if len(values) != 1:
        raise UserError(
            f"The candidates have {len(values)} different values of {SETTINGS[key]}: {values.to_pylist()[:3]}.",
            where=folder,
            remedy="Generate at least one clip, and all of them with one model and the same parameters.",
        )
    # A single-precision number is meant as it was written: 1.4, not 1.39999998.
    return float(str(values.to_numpy()[0])) if pa.types.is_floating(column.type) else values[0].as_py()


def compared(base: Sampling, aligned: Sampling, *, allowed: Collection[str]) -> dict[str, str]:
    """What differs between the two systems: key of TITLES -> what it is in both; only keys in `allowed` come back.

    Raises UserError that names both folders and both values for a difference that is not allowed.
    """
    differences = _differences(base, aligned)
    refused = {key: text for key, text in differences.items() if key not in allowed}
    if refused:
        texts = "; ".join(f"{TITLES[key]}: {text}" for key, text in refused.items())
        raise UserError(
            f"Base and aligned candidates were not made alike. {texts}.",
            where=f"{base.folder} (base), {aligned.folder} (aligned)",
            remedy="Generate both with the same parameters, or allow the difference, which every table will then name: "
            f"--set evaluate.allow_different='[{', '.join(refused)}]'",
        )
    return differences


def _differences(base: Sampling, aligned: Sampling) -> dict[str, str]:
    found: dict[str, str] = {}
    if base.tried != aligned.tried:
        found["clips"] = f"{len(base.tried - aligned.tried)} only base, {len(aligned.tried - base.tried)} only aligned"
    if base.conditions != aligned.conditions or not base.conditions:
        shown = [sampling.conditions or "not recorded" for sampling in (base, aligned)]
        found["conditions"] = _both(*shown)
    common = base.seeds.keys() & aligned.seeds.keys()
    other = [clip_id for clip_id in sorted(common) if base.seeds[clip_id] != aligned.seeds[clip_id]]
    if other:
        values = _both(base.seeds[other[0]], aligned.seeds[other[0]])
        found["seed"] = f"not the same for {len(other)} of {len(common)} clips, for example {values} for {other[0]}"
    for key in SETTINGS:
        if base.settings[key] != aligned.settings[key]:
            found[key] = _both(base.settings[key], aligned.settings[key])
    return found


def _both(base: object, aligned: object) -> str:
    return f"{_text(base)} (base) and {_text(aligned)} (aligned)"


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_setting(sampling: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """A setting of both systems in words: `4.5`, or `1 (base) and 4.5 (aligned)`; `sampling` as in `summary.json`."""
    base, aligned = (sampling[system][key] for system in ("base", "aligned"))
    return _text(base) if base == aligned else _both(base, aligned)
