"""Official files, downloaded or fetched by hand, become weights in `WEIGHTS_DIR`: checksum, keys, shapes, conversion.

The conversion happens once. The folder appears by one rename, after a flush to disk, so it is whole or absent.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.weights.catalog import FILES, OfficialFile, file_named_like, official_file
from v2a_dpo.weights.checkpoint_file import UnreadableFileError, WrongFileError, read_checkpoint, state_dict
from v2a_dpo.weights.download import Patience, download
from v2a_dpo.weights.layout import nearest_differences, shapes_of
from v2a_dpo.weights.store import (
    MIB,
    MODEL_FILE,
    RECORD_FILE,
    Digests,
    Store,
    Trust,
    WeightsRecord,
    accept_licence,
    digests,
)

#: A damaged file smaller than this share of its weights' size is called truncated.
_WHOLE = 0.99
_FREE_SPACE = "Free some space, or set WEIGHTS_DIR to a folder on another disk."


def fetch(
    name: str,
    store: Store,
    *,
    accept_noncommercial: bool = False,
    progress: Progress = silent,
    patience: Patience | None = None,
) -> WeightsRecord:
    """Downloads and imports the official file called `name` unless it is imported already, and returns its record.

    The downloaded file is deleted once it is converted. Raises UserError as `download` and `import_file` do; a wrong
    file is deleted, so that the next call fetches it anew.
    """
    file = official_file(name)
    accept_licence(file, noncommercial=accept_noncommercial)
    existing = store.record(name)
    if existing is not None:
        return existing
    path = store.downloads() / file.file_name
    if not path.exists():
        title = f"fetch {name} (MiB)"
        download(file.url, path, progress=lambda done, total: progress(title, done, total), patience=patience)
    try:
        record = import_file(path, store, name=name, accept_noncommercial=accept_noncommercial, progress=progress)
    except WrongFileError:
        path.unlink()
        raise
    path.unlink()
    return record


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

    `name` is its name in the catalog where that does not follow from the file's own. The checksum must be the published
    one or, where there is none, that of an earlier import; `allow_unverified` accepts another one, as long as every key
    and shape fits, which the record shows. Raises UserError that names the differing checksum, key or shape, and the
    official file with the same layout, if any.
    """
    file = official_file(name) if name else file_named_like(path)
    accept_licence(file, noncommercial=accept_noncommercial)
    if not path.is_file():
        raise UserError("This file does not exist.", where=str(path), remedy=f"Fetch it from {file.url}.")
    checksums = digests(path, f"check {file.name} (MiB)", progress)
    previous = store.record(file.name)
    trust = _trust(file, checksums, previous)
    if trust == "unverified" and not allow_unverified:
        raise _unverified(path, file, checksums, previous)
    if previous is not None and previous.source_sha256 == checksums.sha256 and store.damage(file.name) is None:
        return previous
    state = _fitting_state(path, file)
    return _write(path, state, file, store, checksums, trust)


def _trust(file: OfficialFile, checksums: Digests, previous: WeightsRecord | None) -> Trust:
    if file.md5 is not None:
        return "published checksum" if checksums.md5 == file.md5 else "unverified"
    if previous is None or (previous.source_sha256 == checksums.sha256 and previous.trust == "first import"):
        return "first import"
    return "unverified"


def _unverified(path: Path, file: OfficialFile, checksums: Digests, previous: WeightsRecord | None) -> WrongFileError:
    """The error for a file with another checksum than the expected one, with the likely reason."""
    for other in FILES.values():
        if other.md5 == checksums.md5:
            remedy = f"Import it with --as {other.name}, or take {file.file_name}."
            what = f"This is not {file.name} but {other.name} ({other.file_name}), by its checksum."
            return WrongFileError(what, where=str(path), remedy=remedy)
    if file.md5 is not None:
        what = f"The checksum differs: {path.name} has MD5 {checksums.md5}, {file.file_name} has {file.md5}."
    else:
        earlier = previous.source_sha256 if previous else ""
        what = f"The checksum differs: {path.name} has SHA-256 {checksums.sha256}, the earlier import had {earlier}."
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
    differences = nearest_differences(shapes_of(state), file)
    if not differences:
        return state
    what = f"These are not the weights of {file.name}: {'; '.join(differences)}."
    remedy = f"Take {file.file_name} from {file.url}."
    other = _identified(content, file)
    if other is not None:
        what += f" They look like {other.name}."
        remedy = f"Import the file with --as {other.name}, or take {file.file_name}."
    raise WrongFileError(what, where=str(path), remedy=remedy)


def _identified(content: object, file: OfficialFile) -> OfficialFile | None:
    """The other official file whose layout a checkpoint's content has; None when there is none."""
    for other in FILES.values():
        try:
            shapes = shapes_of(state_dict(content, other, where=""))
        except WrongFileError:
            continue
        if other is not file and not nearest_differences(shapes, other):
            return other
    return None


def _write(
    path: Path, state: Mapping[str, Tensor], file: OfficialFile, store: Store, checksums: Digests, trust: Trust
) -> WeightsRecord:
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < num_bytes:
        what = f"{file.name} needs {num_bytes / MIB:.0f} MiB, and {free / MIB:.0f} are free."
        raise UserError(what, where=str(store.root), remedy=_FREE_SPACE)
    with new_folder(store.folder(file.name)) as folder:
        model = folder / MODEL_FILE
        try:
            save_file(_separate(state), model, metadata={"format": "pt"})
        except SafetensorError as error:
            what = f"The weights cannot be written: {error}"
            raise UserError(what, where=str(store.root), remedy=_FREE_SPACE) from error
        if (config := file.config()) is not None:
            write_json(folder / "config.json", config)
        record = WeightsRecord(
            name=file.name,
            source_file=path.name,
            source_bytes=path.stat().st_size,
            source_md5=checksums.md5,
            source_sha256=checksums.sha256,
            trust=trust,
            licence=file.licence,
            tensors=len(state),
            parameters=sum(tensor.numel() for tensor in state.values()),
            sha256=file_checksum(model),
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
