"""Official archives, fetched with resume and checked against their published checksums."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from DiffRec.engine.errors import InputError

# The address and the MD5 that GroupLens publishes beside each archive.
MOVIELENS = "https://files.grouplens.org/datasets/movielens"
ML_1M = f"{MOVIELENS}/ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906"
ML_100K = f"{MOVIELENS}/ml-100k.zip", "0e33842e24a9c977be4e0107933c0723"


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def download(url: str, md5: str, target: Path, timeout: float = 20) -> Path:
    """Fetch ``url`` to ``target`` unless a file with the checksum is there already.

    What a broken transfer has fetched stays beside the target as ``.part``, and the next call goes
    on from there. Raises InputError if the server cannot be reached, breaks off, or the file is not
    the expected one.
    """
    if target.is_file() and md5_of(target) == md5:
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            resumed = done and getattr(response, "status", None) == 206
            left = int(response.headers.get("Content-Length") or 0)
            receive(response, part, "ab" if resumed else "wb", done if resumed else 0, left)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to fetch
            raise InputError(f"{url} could not be fetched ({error}).") from error
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{url} could not be fetched ({error}): the same command goes on from there."
        ) from error
    if md5_of(part) != md5:
        part.unlink()
        raise InputError(f"{url} sent a file with another checksum: try again later.")
    part.replace(target)
    return target


def receive(response, part: Path, mode: str, done: int, left: int) -> None:
    """Append what comes to ``part``; an IncompleteRead if it is less than was promised."""
    with (
        part.open(mode) as file,
        tqdm(
            total=done + left or None, initial=done, desc=part.stem, unit="B", unit_scale=True,
            disable=None,
        ) as bar,
    ):  # fmt: skip
        received = 0
        while chunk := response.read(1 << 20):
            file.write(chunk)
            received += len(chunk)
            bar.update(len(chunk))
        if received < left:
            raise http.client.IncompleteRead(b"", left - received)
