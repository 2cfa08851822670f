"""Files are written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from DiffRec.errors import InputError


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    If the block fails (a full disk, an interrupt) the temporary file is removed and whatever
    stood at ``path`` before is still there; a failure to write is an InputError.
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
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save raises RuntimeError
        kept = "; the file that stood there before is unchanged" if path.exists() else ""
        raise InputError(f"{path} could not be written ({error}){kept}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
