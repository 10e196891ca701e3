"""From the official source into `WEIGHTS_DIR`: download, then the same checks and conversion as a file fetched by
hand."""

from __future__ import annotations

from v2a_dpo.progress import Progress, silent
from v2a_dpo.weights.catalog import official_file
from v2a_dpo.weights.checkpoint_file import WrongFileError
from v2a_dpo.weights.download import Patience, download
from v2a_dpo.weights.importing import import_file
from v2a_dpo.weights.store import Store, WeightsRecord, accept_licence


def fetch(
    name: str,
    store: Store,
    *,
    accept_noncommercial: bool = False,
    progress: Progress = silent,
    patience: Patience | None = None,
) -> WeightsRecord:
    """Downloads and imports the official file called `name` unless it is there, and returns its record.

    The downloaded file is deleted once it is converted. Raises UserError as `download` and `import_file` do; a wrong
    file is deleted, so that the next call fetches it anew.
    """
    file = official_file(name)
    accept_licence(file, noncommercial=accept_noncommercial)
    present = store.record(name)
    if present is not None:
        return present
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
