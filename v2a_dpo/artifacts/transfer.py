"""Large files to and from S3: in parts that are checked, tried again and, after a stop, not sent twice.

An object appears with its last part, or not at all. Every part is sent with its SHA-256, which S3 checks; a download is
compared with the checksums that S3 stores. The next upload of the same file continues a killed one; a lifecycle rule on
the bucket should delete uploads that are not continued. boto3's own transfers begin anew after a stop and do not
compare files that were downloaded in parts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from v2a_dpo.artifacts.location import filesystem, is_remote, new_local_file, reported
from v2a_dpo.artifacts.s3 import s3_client, s3_place
from v2a_dpo.errors import UserError

#: Bytes of a part; S3 takes at least 5 MiB and at most 10,000 parts.
PART_BYTES = 16 * 2**20
_MAX_PARTS = 10_000
_AT_ONCE = 8
#: In an object's metadata: the size of its parts, without which S3's checksums of them cannot be compared.
_PART_BYTES_KEY = "part-bytes"


@contextmanager
def whole_file(uri: str) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `uri`, local or remote, when the block ends without an error.

    After an error nothing is left of it. For a remote `uri` it grows in the temporary folder and is uploaded. Raises
    UserError when the disk is full or the location cannot be written.
    """
    if not is_remote(uri):
        with new_local_file(uri) as file:
            yield file
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / uri.rsplit("/", 1)[-1]
        with path.open("wb") as file:
            yield file
        send_file(path, uri)


def send_file(file: Path, uri: str, *, part_bytes: int = PART_BYTES) -> None:
    """Copies the local `file` to the remote `uri`; a reader gets the old object, the new one, or none.

    On S3, the parts of an earlier, killed upload of the same content are not sent again. Raises UserError when it
    cannot be written after several attempts.
    """
    with reported("written", uri):
        if not uri.startswith("s3://"):
            fs, path = filesystem(uri)
            fs.put_file(str(file), path)
            return
        client, place = s3_client(max_pool_connections=_AT_ONCE), s3_place(uri)
        size = file.stat().st_size
        step = max(part_bytes, -(-size // _MAX_PARTS))
        metadata = {_PART_BYTES_KEY: str(step)}
        if size <= step:
            content = file.read_bytes()
            client.put_object(**place, Body=content, ChecksumSHA256=_sha256(content), Metadata=metadata)
            return
        if interrupted := _interrupted(client, place, step):
            upload, stored = interrupted
            try:
                return _send_parts(client, place, upload, file, step, stored=stored)
            except client.exceptions.NoSuchUpload:  # another process ended it meanwhile
                pass
        created = client.create_multipart_upload(**place, ChecksumAlgorithm="SHA256", Metadata=metadata)
        _send_parts(client, place, created["UploadId"], file, step, stored={})


def fetch_file(uri: str, file: Path, *, part_bytes: int = PART_BYTES) -> None:
    """Copies the object at the remote `uri` to the local `file`, which appears when it is whole and its checksums fit.

    On S3, a killed fetch is continued if the object is still the same. Raises UserError when the object does not
    exist, or when its checksums differ in two fetches.
    """
    with reported("read", uri):
        if not uri.startswith("s3://"):
            fs, path = filesystem(uri)
            fs.get_file(path, str(file))
            return
        client, place = s3_client(max_pool_connections=_AT_ONCE), s3_place(uri)
        try:
            head = client.head_object(**place, ChecksumMode="ENABLED")
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                raise FileNotFoundError(uri) from error
            raise
        step = int(head["Metadata"].get(_PART_BYTES_KEY, part_bytes))
        partial = file.with_name(f".{file.name}.{head['ETag'].strip(chr(34))}.partial")
        for old in file.parent.glob(f".{file.name}.*.partial"):
            if old != partial:
                old.unlink()
        for _ in range(2):
            _fetch_parts(client, place, head, partial, step)
            if _is_whole(partial, head, step):
                partial.replace(file)
                return
            partial.unlink()
        remedy = "The object is damaged; make or upload it again."
        raise UserError("The fetched file is not the stored one: the checksums differ.", where=uri, remedy=remedy)


def _interrupted(client: Any, place: dict[str, str], step: int) -> tuple[str, dict[int, dict[str, Any]]] | None:
    """The newest upload to this place that did not end, and its parts of `step` bytes by number; None when none exists.

    None also where the service does not allow the search.
    """
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=place["Bucket"], Prefix=place["Key"])
        uploads = [item for page in pages for item in page.get("Uploads", []) if item["Key"] == place["Key"]]
        uploads = [item for item in uploads if item.get("ChecksumAlgorithm", "SHA256") == "SHA256"]
        if not uploads:
            return None
        upload = max(uploads, key=lambda item: item["Initiated"])["UploadId"]
        pages = client.get_paginator("list_parts").paginate(**place, UploadId=upload)
        parts = {item["PartNumber"]: item for page in pages for item in page.get("Parts", [])}
        return (upload, parts) if max((item["Size"] for item in parts.values()), default=0) == step else None
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in {"AccessDenied", "NotImplemented", "NoSuchUpload"}:
            return None
        raise


def _send_parts(
    client: Any, place: dict[str, str], upload: str, file: Path, step: int, *, stored: dict[int, dict[str, Any]]
) -> None:
    """Sends the parts of `file` that are not among the `stored` ones of the `upload`, and completes the object."""
    upload_of = {**place, "UploadId": upload}

    def send(number: int) -> dict[str, Any]:
        content = _content(file, number, step)
        checksum = _sha256(content)
        part = stored.get(number)
        if part is None or not _is_stored(content, checksum, part):
            part = client.upload_part(**upload_of, PartNumber=number, Body=content, ChecksumSHA256=checksum)
        return {"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": checksum}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sent = list(pool.map(send, range(1, -(-file.stat().st_size // step) + 1)))
    client.complete_multipart_upload(**upload_of, MultipartUpload={"Parts": sent})


def _is_stored(content: bytes, checksum: str, part: dict[str, Any]) -> bool:
    """Whether S3 has this very part; by SHA-256 where the service gives it, else by its ETag."""
    if part["Size"] != len(content):
        return False
    if "ChecksumSHA256" in part:
        return bool(part["ChecksumSHA256"] == checksum)
    return bool(part["ETag"].strip('"') == hashlib.md5(content, usedforsecurity=False).hexdigest())


def _fetch_parts(client: Any, place: dict[str, str], head: dict[str, Any], partial: Path, step: int) -> None:
    """Appends the missing bytes to `partial`; only whole parts of an earlier fetch count."""
    size = head["ContentLength"]
    with partial.open("ab") as file:
        kept = min(file.tell(), size) // step * step
        file.truncate(kept)

    def fetch(start: int) -> bytes:
        span = f"bytes={start}-{min(start + step, size) - 1}"
        content: bytes = client.get_object(**place, Range=span, IfMatch=head["ETag"])["Body"].read()
        return content

    with partial.open("ab") as file, ThreadPoolExecutor(_AT_ONCE) as pool:
        for window in range(kept, size, step * _AT_ONCE):
            for content in pool.map(fetch, range(window, min(window + step * _AT_ONCE, size), step)):
                file.write(content)


def _is_whole(file: Path, head: dict[str, Any], step: int) -> bool:
    """Whether the file is the object that `head` describes: by SHA-256, else by its ETag where that is an MD5.

    An object that another tool stored in parts of unknown size is compared by its size alone.
    """
    if file.stat().st_size != head["ContentLength"]:
        return False
    etag, _, parts = head["ETag"].strip('"').partition("-")  # ends with the number of parts if it came in parts
    in_parts = bool(parts)
    if sha256 := head.get("ChecksumSHA256", "").partition("-")[0]:
        expected, algorithm = base64.b64decode(sha256), "sha256"
    elif len(etag) == 32 and head.get("ServerSideEncryption", "AES256") == "AES256":
        expected, algorithm = bytes.fromhex(etag), "md5"
    else:
        return True
    if in_parts and _PART_BYTES_KEY not in head["Metadata"]:
        return True
    return _digest(file, algorithm, step, in_parts=in_parts) == expected


def _digest(file: Path, algorithm: str, step: int, *, in_parts: bool) -> bytes:
    """The digest of the content or, as S3 has it for an upload in parts, of the digests of the parts."""
    whole = hashlib.new(algorithm, usedforsecurity=False)
    with file.open("rb") as content:
        while piece := content.read(step):
            whole.update(hashlib.new(algorithm, piece, usedforsecurity=False).digest() if in_parts else piece)
    return whole.digest()


def _content(file: Path, number: int, step: int) -> bytes:
    """The part `number`, from 1, of the parts of `step` bytes of a file."""
    with file.open("rb") as opened:
        opened.seek((number - 1) * step)
        return opened.read(step)


def _sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
