"""The lineage of a model: data sets with their shards' checksums, models, parameters, code.

Data sets name their inputs by fingerprint only, not by place. The folders of a loop are read once, and fingerprints
that belong to one of them become edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.json_files import json_text
from v2a_dpo.artifacts.location import exists, join, list_names
from v2a_dpo.artifacts.manifest import MANIFEST, Manifest


@dataclass(frozen=True)
class Node:
    """One artifact: a data set with its shards (name -> SHA-256), or a model; `inputs` maps roles to fingerprints."""

    name: str
    uri: str
    fingerprint: str
    rows: int | None = None
    shards: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    #: The parts kept on request despite a change of the code, and that change; "" for none.
    kept: str = ""


@dataclass(frozen=True)
class Lineage:
    """All artifacts behind a model, the model itself first, with code and parameters."""

    nodes: tuple[Node, ...]
    code: dict[str, str]
    params: str

    def to_text(self) -> str:
        """The lineage as JSON."""
        return json_text(asdict(self))

    @staticmethod
    def from_text(text: str) -> Lineage:
        """The lineage from the result of `to_text`."""
        return TypeAdapter(Lineage).validate_json(text)

    def tree(self, title: str) -> str:
        """The tree from the model down to shards, indented; a node that occurs again has no branches there."""
        by_fingerprint = {node.fingerprint: node for node in self.nodes}
        code = self.code.get("mlflow.source.git.commit", "unknown")
        changed = " with changes that are not committed" if self.code.get("git.modified") == "true" else ""
        lines = [title, f"  code: commit {code}{changed}", f"  parameters: {self.params}"]
        lines += _walk(self.nodes[0], by_fingerprint, depth=1, role="model", seen=set())
        return "\n".join(lines)


def trace(
    model: str,
    *,
    inputs: Mapping[str, str],
    folders: Sequence[str],
    code: Mapping[str, str],
    params: str,
    kept: str = "",
) -> Lineage:
    """The lineage of the model folder `model`, made from `inputs` (role -> folder).

    `folders` are data sets and models that may be behind those; for a folder that does not exist any more only the
    fingerprint is shown. `kept` names the change of the code that is newer than the model.
    """
    known = [_node(uri) for uri in dict.fromkeys([*inputs.values(), *folders]) if exists(uri)]
    made_from = {role: node.fingerprint for role, uri in inputs.items() for node in known if node.uri == uri}
    own = folder_fingerprint(model)
    others = [node for node in known if node.fingerprint != own]
    return Lineage((Node("model", model, own, inputs=made_from, kept=kept), *others), dict(code), params)


def differences(lineage: Lineage) -> list[str]:
    """One sentence for each part of the lineage that is not on the disk as recorded.

    Every shard is read and its checksum computed.
    """
    return [sentence for node in lineage.nodes for sentence in _differences(node)]


def _differences(node: Node) -> Iterator[str]:
    if not exists(node.uri):
        yield f"{node.uri} does not exist."
    elif node.shards:
        dataset = Dataset.open(node.uri)
        present = {shard.name: shard.sha256 for shard in dataset.shards}
        damaged = set(dataset.verify())
        for name, sha256 in node.shards.items():
            if present.get(name) != sha256 or name in damaged:
                yield f"{join(node.uri, name)} is not the shard with SHA-256 {sha256}."
    elif folder_fingerprint(node.uri) != node.fingerprint:
        yield f"{node.uri} is not the model with fingerprint {node.fingerprint}."


def dataset_name(uri: str, manifest: Manifest) -> str:
    """The kind of a data set and the name of its folder, such as `candidates/test`; once if they are equal."""
    folder = uri.rstrip("/").rsplit("/", 1)[-1]
    return folder if folder == manifest.schema_name else f"{manifest.schema_name}/{folder}"


def _node(uri: str) -> Node:
    if MANIFEST not in list_names(uri):
        return Node("/".join(uri.rstrip("/").rsplit("/", 2)[-2:]), uri, folder_fingerprint(uri))
    manifest = Dataset.open(uri).manifest
    return Node(
        dataset_name(uri, manifest),
        uri,
        manifest.fingerprint,
        rows=manifest.rows,
        shards={shard.name: shard.sha256 for shard in manifest.shards},
        inputs=manifest.inputs,
        software=manifest.software,
        kept=str(manifest.kept) if manifest.kept.shards else "",
    )


def _walk(node: Node, known: Mapping[str, Node], *, depth: int, role: str, seen: set[str]) -> Iterator[str]:
    indent = "  " * depth
    rows = "" if node.rows is None else f", {node.rows} rows"
    again = " (see above)" if node.fingerprint in seen else ""
    yield f"{indent}{role}: {node.name} {node.fingerprint}{rows}{again}"
    if again:
        return
    seen.add(node.fingerprint)
    yield f"{indent}  at {node.uri}"
    if node.kept:
        yield f"{indent}  {node.kept}"
    for name, sha256 in node.shards.items():
        yield f"{indent}  {name} sha256 {sha256}"
    for name, digest in node.inputs.items():
        if digest in known:
            yield from _walk(known[digest], known, depth=depth + 1, role=name, seen=seen)
        else:
            yield f"{indent}  {name}: {digest}"
