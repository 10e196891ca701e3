"""Runs a stage on behalf of a workflow engine: converts arguments, logs progress, describes outputs.

An engine passes texts, numbers and structures of them, and small files from step to step. Here they become what a
stage takes; no engine is imported. The data stay where the stage writes them: the engine gets descriptions of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import signature
from typing import Any, Protocol

from v2a_dpo.artifacts.json_files import read_json
from v2a_dpo.artifacts.location import file_sizes, join, read_bytes
from v2a_dpo.artifacts.manifest import MANIFEST, read_manifest
from v2a_dpo.params import params_from
from v2a_dpo.progress import ProgressLines
from v2a_dpo.tracking.values import numbers as numbers_of


class Artifact(Protocol):
    """A small file that the engine keeps: the local path to write, and the metadata that it shows."""

    path: str
    metadata: dict[str, Any]


def run_stage(
    stage: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    data: tuple[str, Artifact] | None = None,
    model: tuple[str, Artifact] | None = None,
    page: tuple[str, Artifact] | None = None,
    numbers: tuple[str, Artifact] | None = None,
    **others: Any,
) -> Any:
    """What `stage` returns for those of `arguments` and `others` that it takes.

    `arguments` are the `locals()` of a component: the values of all parameters as `params`, and what the engine passes.
    An empty text means "not given"; `shards` is one of the texts of `plan_shards`. `others` are arguments that the
    component combines from several of its own. `data`, `model` and `page` name the data set, the model folder (empty:
    the one returned) or the file to show, and the artifact for it; `numbers` the artifact for its numbers, and a JSON
    file that holds them, or an empty text for those of the stage's summary.
    """
    parameters = signature(stage).parameters
    values = {name: value for name, value in {**arguments, **others}.items() if name in parameters}
    values = {name: None if value == "" else value for name, value in values.items()}
    shards = arguments.get("shards") or ""
    if shards:
        values["shards"] = list(shards_of(shards))
    if "progress" in parameters:
        values["progress"] = ProgressLines()
    result = stage(**values | {"params": params_from(arguments["params"])})
    print(result, flush=True)
    if data is not None:
        _describe_data(*data, shards=shards)
    if model is not None:
        _describe_model(model[0] or str(result), model[1])
    if page is not None:
        _write(page[1], read_bytes(page[0]))
    if numbers is not None:
        numbers[1].metadata.update(flat_numbers(read_json(numbers[0]) if numbers[0] else asdict(result)))
    return result


def shards_of(text: str) -> range:
    """The shards' indices that a text such as `0-31` means."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def flat_numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a structure by path: `base/ib_score`, and its interval as `base/ib_score/low` and so on."""
    return {point.key.removesuffix("/value"): float(point.value) for point in numbers_of(content)}


def _describe_data(uri: str, artifact: Artifact, *, shards: str) -> None:
    """Puts the data set's manifest into the artifact; a worker's shards have none until the set is complete."""
    if shards:
        artifact.metadata.update({"uri": uri, "shards": shards})
        _write(artifact, json.dumps(artifact.metadata, allow_nan=False).encode())
        return
    manifest = read_manifest(uri)
    artifact.metadata.update(
        {
            "uri": uri,
            "schema": manifest.schema_name,
            "rows": manifest.rows,
            "shards": len(manifest.shards),
            "quarantined": manifest.quarantined,
            "fingerprint": manifest.fingerprint,
        }
    )
    _write(artifact, read_bytes(join(uri, MANIFEST)))


def _describe_model(uri: str, artifact: Artifact) -> None:
    """Puts the model's place and the sizes of its files into the artifact; the files are not copied."""
    files = file_sizes(uri)
    artifact.metadata.update({"uri": uri, "num_bytes": sum(files.values())})
    _write(artifact, json.dumps({"uri": uri, "files": files}, indent=2, allow_nan=False).encode())


def _write(artifact: Artifact, content: bytes) -> None:
    with open(artifact.path, "wb") as file:
        file.write(content)
