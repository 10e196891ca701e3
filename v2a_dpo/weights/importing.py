"""From a file fetched by hand or by `download` to weights in `WEIGHTS_DIR`: checksum, keys and shapes, conversion.

The conversion happens once. Nothing half-made is ever seen: the folder appears by one rename, after a flush to disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.weights.catalog import FILES, OfficialFile, file_named_like, official_file
from v2a_dpo.weights.checkpoint_file import UnreadableFileError, WrongFileError, read_checkpoint, state_dict
from v2a_dpo.weights.digest import MIB, Digests, digests
from v2a_dpo.weights.layout import nearest_differences, shapes_of
from v2a_dpo.weights.store import MODEL_FILE, RECORD_FILE, Store, Trust, WeightsRecord, accept_licence

#: A damaged file smaller than this share of its weights' size is called truncated.
_WHOLE = 0.99


def import_file(
    path: Path,
    store: Store,
    *,
    name: str | None = None,
    allow_unverified: bool = False,
    accept_noncommercial: bool = False,
    progress: Progress = silent,
) -> WeightsRecord:
    """Puts the official file at `path` into `store`, converted, and returns its record.

    `name` says which one it is where the file's own name does not. The checksum must be the published one or, where
    there is none, that of an earlier import; `allow_unverified` takes another one, as long as every key and shape fits,
    and the record then says so. Raises UserError that names the checksum, key or shape that differs, and the file it
    looks like.
    """
    file = official_file(name) if name else file_named_like(path)
    accept_licence(file, noncommercial=accept_noncommercial)
    if not path.is_file():
        raise UserError("This file does not exist.", where=str(path), remedy=f"Fetch it from {file.url}.")
    found = digests(path, progress=lambda done, total: progress(f"check {file.name} (MiB)", done, total))
    previous = store.record(file.name)
    trust = _trust(file, found, previous)
    if trust == "unverified" and not allow_unverified:
        raise _unverified(path, file, found, previous)
    if previous is not None and previous.source_sha256 == found.sha256 and store.damage(file.name) is None:
        return previous
    state = _fitting_state(path, file)
    return _write(path, state, file, store, found, trust)


def _trust(file: OfficialFile, found: Digests, previous: WeightsRecord | None) -> Trust:
    if file.md5 is not None:
        return "published checksum" if found.md5 == file.md5 else "unverified"
    if previous is None or (previous.source_sha256 == found.sha256 and previous.trust == "first import"):
        return "first import"
    return "unverified"


def _unverified(path: Path, file: OfficialFile, found: Digests, previous: WeightsRecord | None) -> WrongFileError:
    """The error for a file whose checksum is not the expected one, with what it may be instead."""
    for other in FILES.values():
        if other.md5 == found.md5:
            remedy = f"Import it with --as {other.name}, or take {file.file_name}."
            what = f"This is not {file.name} but {other.name} ({other.file_name}), by its checksum."
            return WrongFileError(what, where=str(path), remedy=remedy)
    if file.md5 is not None:
        what = f"The checksum differs: {path.name} has MD5 {found.md5}, {file.file_name} has {file.md5}."
    else:
        earlier = previous.source_sha256 if previous else ""
        what = f"The checksum differs: {path.name} has SHA-256 {found.sha256}, the file imported earlier had {earlier}."
    remedy = f"Fetch {file.url} again, or accept the file as it is with --allow-unverified."
    try:
        _fitting_state(path, file)
        what += " All its keys and shapes fit: it may be a copy that was saved again."
    except UnreadableFileError as error:
        size_mib = path.stat().st_size / MIB
        if file.size_mib is not None and size_mib < _WHOLE * file.size_mib:
            what += f" It has {size_mib:.1f} MiB of about {file.size_mib:.0f}: it looks truncated."
        else:
            what += f" {error.what}"
        remedy = f"Fetch {file.url} again."
    except WrongFileError as error:
        what += f" {error.what}"
        remedy = error.remedy
    return WrongFileError(what, where=str(path), remedy=remedy)


def _fitting_state(path: Path, file: OfficialFile) -> dict[str, Tensor]:
    """The weights in the file at `path`; raises WrongFileError unless every key and shape is that of `file`."""
    content = read_checkpoint(path)
    state = state_dict(content, file, where=str(path))
    sentences = nearest_differences(shapes_of(state), file)
    if not sentences:
        return state
    what = f"These are not the weights of {file.name}: {'; '.join(sentences)}."
    remedy = f"Take {file.file_name} from {file.url}."
    other = _identified(content, file)
    if other is not None:
        what += f" They look like {other.name}."
        remedy = f"Import the file with --as {other.name}, or take {file.file_name}."
    raise WrongFileError(what, where=str(path), remedy=remedy)


def _identified(content: object, file: OfficialFile) -> OfficialFile | None:
    """The other official file that a checkpoint's content has the layout of, taken out of whatever container it is
    in."""
    for other in FILES.values():
        try:
            found = shapes_of(state_dict(content, other, where=""))
        except WrongFileError:
            continue
        if other is not file and not nearest_differences(found, other):
            return other
    return None


def _write(
    path: Path, state: Mapping[str, Tensor], file: OfficialFile, store: Store, found: Digests, trust: Trust
) -> WeightsRecord:
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < num_bytes:
        raise UserError(
            f"{file.name} needs {num_bytes / MIB:.0f} MiB, and {free / MIB:.0f} are free.",
            where=str(store.root),
            remedy="Free some space, or set WEIGHTS_DIR to a folder on another disk.",
        )
    with new_folder(store.folder(file.name)) as folder:
        model = folder / MODEL_FILE
        try:
            save_file(_separate(state), model, metadata={"format": "pt"})
        except SafetensorError as error:
            remedy = "Free some space, or set WEIGHTS_DIR to a folder on another disk."
            raise UserError(f"The weights cannot be written: {error}", where=str(store.root), remedy=remedy) from error
        if file.model_config is not None:
            module, function = file.model_config.split(":")
            config = getattr(import_module(module), function)(file.variant)
            write_json(folder / "config.json", config)
        record = WeightsRecord(
            name=file.name,
            source_file=path.name,
            source_bytes=path.stat().st_size,
            source_md5=found.md5,
            source_sha256=found.sha256,
            trust=trust,
            licence=file.licence,
            tensors=len(state),
            parameters=sum(tensor.numel() for tensor in state.values()),
            sha256=digests(model).sha256,
            bytes=model.stat().st_size,
        )
        (folder / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each contiguous and with memory of its own, as safetensors wants them."""
    seen: set[int] = set()
    separate = {}
    for key, tensor in state.items():
        address = tensor.untyped_storage().data_ptr()
        separate[key] = tensor.clone() if address in seen else tensor.contiguous()
        seen.add(address)
    return separate
