"""Official archives, fetched once and checked against their published checksums."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from DiffRec.errors import InputError
from DiffRec.files import written_whole

# https://files.grouplens.org/datasets/movielens/ml-1m.zip.md5
ML_1M = (
    "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    "c4d9eecfca2ab87c1945afe126590906",
)


def download(url: str, md5: str, target: Path, timeout: float = 20) -> Path:
    """Fetch ``url`` to ``target`` unless a file with the checksum is there already.

    Raises InputError if the server cannot be reached or the file is not the expected one.
    """
    if target.is_file() and hashlib.md5(target.read_bytes()).hexdigest() == md5:
        return target
    digest = hashlib.md5()
    try:
        with (
            urllib.request.urlopen(url, timeout=timeout) as response,
            written_whole(target) as temporary,
            temporary.open("wb") as file,
            tqdm(
                total=int(response.headers.get("Content-Length", 0)) or None,
                desc=target.name, unit="B", unit_scale=True, disable=None,
            ) as bar,
        ):  # fmt: skip
            while chunk := response.read(1 << 20):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
            if digest.hexdigest() != md5:
                raise InputError(f"{url} sent a file with another checksum: try again later.")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise InputError(f"{url} could not be fetched ({error}).") from error
    return target
