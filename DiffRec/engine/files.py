"""Files are written whole or not at all."""

import contextlib
import csv
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from DiffRec.engine.errors import InputError

ASIDE = "aside"  # what an old folder is called until the new one is in its place


def temporary_prefix(path: Path) -> str:
    """What temporary files beside ``path`` begin with: they tell who writes them."""
    host = re.sub(r"[^\w-]", "", platform.node())[:30]
    return f".{path.name[:100]}.{host}-"


def left_by_the_dead(path: Path) -> Iterator[Path]:
    """The temporary files that dead processes of this machine left beside ``path``."""
    prefix = temporary_prefix(path)
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):
        pid = left.name.removeprefix(prefix).split(".")[0]
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            yield left
        except OSError:  # it lives, and is somebody else's
            continue


def remove_stale(path: Path) -> None:
    """Remove what dead processes left; a folder that one had put aside, and had not yet replaced,
    comes back to its place."""
    for left in left_by_the_dead(path):
        if (left / ASIDE).is_dir() and not path.exists():
            (left / ASIDE).rename(path)
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def hash_of(*paths: Path) -> str:
    """SHA-256 of what files hold, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def require_replaceable(path: Path) -> None:
    """InputError for what a file may not take the place of: a folder, a device, a pipe."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no ordinary file, which could be replaced.")


def require_writable(path: str | Path | None, read: Iterable[str | Path | None] = ()) -> None:
    """InputError, before any work, if a file can not be written there, or would take the place of
    one of those that are ``read``."""
    if path is None:
        return
    path = Path(path)
    require_replaceable(path)
    for other in read:
        if other is not None and path.is_file() and os.path.exists(other) and path.samefile(other):
            raise InputError(f"{path} is read here: name another file to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path} could not be written ({error.strerror}).") from error


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    If the block fails (a full disk, an interrupt) the temporary file is removed and whatever
    stood at ``path`` before is still there. An OSError is a failure to write, and becomes an
    InputError; any other error is the caller's own and passes unchanged.
    """
    path = Path(path)
    temporary = None
    require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path)
        prefix = f"{temporary_prefix(path)}{os.getpid()}."
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
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
    remove_stale(folder)
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
        prefix = f"{temporary_prefix(folder)}{os.getpid()}."
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix))
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{prefix}old."))
            folder.rename(old / ASIDE)  # the new one is in place before the old one is deleted
            try:
                temporary.rename(folder)
            except BaseException:
                if not folder.exists():
                    (old / ASIDE).rename(folder)
                raise
            finally:
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


def read_csv(
    path: Path, columns: Sequence[str], check: Callable[[dict[str, str]], object],
    newer: Collection[str] = (),
) -> list[dict[str, str]]:  # fmt: skip
    """The rows of a table with these columns; InputError if it is damaged.

    check: raises ValueError for a row that must not be there.
    newer: those of the columns that a file of before them lacks: they are empty then.
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
        found = reader.fieldnames or ()
        known = [name for name in columns if name in found or name not in newer]
        whole = [*found] == known
        if not whole or any(None in row or None in row.values() for row in rows):
            raise ValueError(f"not all lines have the columns {', '.join(columns)}")
        rows = [{**dict.fromkeys(columns, ""), **row} for row in rows]
        for row in rows:
            check(row)
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{path} is not a whole table ({error}): remove it.") from error
    return rows
