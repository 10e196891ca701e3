"""Moving what is kept: a file or folder to another place in the same store."""

from __future__ import annotations

from v2a_dpo.artifacts.location import filesystem, is_remote, local_path, reported


def move(source: str, target: str) -> None:
    """Moves the file or folder `source` to `target`, where nothing of these names may be.

    Locally by a rename. On S3 object by object, copied there before it is deleted here: after a kill the same call
    goes on. Raises UserError when it cannot be done.
    """
    with reported("moved", source):
        if not is_remote(source):
            place = local_path(target)
            place.parent.mkdir(parents=True, exist_ok=True)
            local_path(source).rename(place)
            return
        (fs, path), (_, place_there) = filesystem(source), filesystem(target)
        fs.invalidate_cache()
        for name in fs.find(path):
            fs.cp_file(name, place_there + name.removeprefix(path))
            fs.rm_file(name)
        fs.invalidate_cache()
