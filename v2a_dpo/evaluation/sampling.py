"""How the candidates of each system were made, by their own columns and manifests, and whether they are comparable.

A paired difference compares models only where everything else is the same. What differs is refused, or, where the user
allows it by name, shown in every table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.errors import UserError

#: Columns of candidates that are the same for all of a system's clips, and their display names.
SETTINGS = {
    "steps": "sampling steps",
    "guidance_scale": "guidance scale",
    "use_text": "text switch",
    "sample_rate": "sample rate",
}
#: All that must agree between systems.
TITLES = {"clips": "clips", "conditions": "conditions", "seed": "seeds", **SETTINGS}


@dataclass(frozen=True)
class Sampling:
    """How the candidates (sample 0) in `folder` were made.

    `conditions` is the fingerprint of what they were made for ("" where it is not recorded), `tried` are the clips with
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


def check_sources(scores: Dataset, sources: Mapping[str, tuple[str, str]]) -> None:
    """Raises UserError unless `scores` were made of these `sources` (name -> fingerprint, folder)."""
    for name, (current, folder) in sources.items():
        recorded = scores.manifest.inputs.get(name, "not recorded")
        if recorded != current:
            raise UserError(
                f"These scores were not made with the {name} that were given: {recorded} in their manifest, {current} "
                f"in {folder}.",
                where=scores.folder,
                remedy="Give the folders that belong together, or run `v2a-dpo score` for these candidates.",
            )


def check_comparable(systems: Mapping[str, Sampling], *, allowed: Collection[str]) -> dict[str, str]:
    """What differs between the systems: key of TITLES -> what it is in each; only keys in `allowed` come back.

    Raises UserError that names all folders and values for a difference that is not allowed.
    """
    differences = _differences(systems)
    refused = {key: text for key, text in differences.items() if key not in allowed}
    if refused:
        texts = "; ".join(f"{TITLES[key]}: {text}" for key, text in refused.items())
        raise UserError(
            f"The systems' candidates were not made alike. {texts}.",
            where=", ".join(f"{sampling.folder} ({name})" for name, sampling in systems.items()),
            remedy="Generate all with the same parameters, or allow the difference, which every table will then name: "
            f"--set evaluate.allow_different='[{', '.join(refused)}]'",
        )
    return differences


def _differences(systems: Mapping[str, Sampling]) -> dict[str, str]:
    differences: dict[str, str] = {}
    samplings = systems.values()
    tried_by_all = frozenset.intersection(*(sampling.tried for sampling in samplings))
    extra = {name: len(sampling.tried - tried_by_all) for name, sampling in systems.items()}
    if any(extra.values()):
        differences["clips"] = ", ".join(f"{count} of {name}" for name, count in extra.items()) + " not tried by all"
    conditions = {name: sampling.conditions or "not recorded" for name, sampling in systems.items()}
    if len(set(conditions.values())) > 1 or "not recorded" in conditions.values():
        differences["conditions"] = _of_each(conditions)
    common = sorted(frozenset.intersection(*(frozenset(sampling.seeds) for sampling in samplings)))
    other = [clip_id for clip_id in common if len({sampling.seeds[clip_id] for sampling in samplings}) > 1]
    if other:
        seeds = _of_each({name: sampling.seeds[other[0]] for name, sampling in systems.items()})
        differences["seed"] = (
            f"not the same for {len(other)} of {len(common)} clips, for example {seeds} for {other[0]}"
        )
    for key in SETTINGS:
        values = {name: sampling.settings[key] for name, sampling in systems.items()}
        if len(set(values.values())) > 1:
            differences[key] = _of_each(values)
    return differences


def _of_each(values: Mapping[str, object]) -> str:
    *first, last = (f"{_text(value)} ({name})" for name, value in values.items())
    return " and ".join([", ".join(first), last] if first else [last])


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_setting(sampling: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """A setting of all systems in words: `4.5`, or `1 (base) and 4.5 (aligned)`; `sampling` as in `summary.json`."""
    values = {name: settings[key] for name, settings in sampling.items()}
    return _text(next(iter(values.values()))) if len(set(values.values())) == 1 else _of_each(values)
