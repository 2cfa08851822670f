"""Files are written whole or not at all."""

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from DiffRec.engine.errors import InputError


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    If the block fails (a full disk, an interrupt) the temporary file is removed and whatever
    stood at ``path`` before is still there. An OSError is a failure to write, and becomes an
    InputError; any other error is the caller's own and passes unchanged.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        temporary = Path(name)
        os.close(handle)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        temporary.replace(path)
    except OSError as error:
        kept = "; the file that stood there before is unchanged" if path.exists() else ""
        raise InputError(f"{path} could not be written ({error}){kept}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(folder: str | Path, names: Collection[str], what: str) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends well.

    A folder that is there is replaced if it holds nothing but files of these names, which are
    ``what``, in words; otherwise that is an InputError, as is a failure to write.
    """
    folder = Path(folder).resolve()
    if folder.is_file():
        raise InputError(f"{folder} is a file, not a folder.")
    inside = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in inside if name not in names]
    if foreign:
        raise InputError(
            f"{folder} holds more than {what} ({', '.join(foreign[:3])}): choose another folder or "
            f"empty it."
        )
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            folder.rename(old / "data")  # the new one is in place before the old one is deleted
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
    except OSError as error:
        raise InputError(f"{folder} could not be written ({error.strerror}).") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_torch(path: Path, content: object) -> None:
    """By torch.save, which reports a failure to write as a RuntimeError."""
    with written_whole(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:
            raise OSError(str(error)) from error


def write_safetensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """By safetensors, which has an error of its own for a failure to write."""
    with written_whole(path) as temporary:
        try:
            save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def write_text(path: str | Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n")


def write_json(path: str | Path, record: dict) -> None:
    write_text(path, json.dumps(record, indent=1))


def write_csv(path: str | Path, rows: list[dict]) -> None:
    """A line for each of ``rows``, at least one; the first names the columns."""
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
