"""Commands in processes of their own that are watched: their time, memory, files and words.

A process is a fork of this one, which has everything imported already: it starts at once, and
nothing that happens to it happens here.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import io
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from DiffRec.engine.commands import command

SECONDS, MEGABYTES = 10, 1024  # what a command on small data may take, the latter above its start
GUARD = 4 * 1024  # megabytes of addresses above the start that a watched process can get at all
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def module_of(script: str) -> types.ModuleType:
    """The module of a script of the repository, by its path."""
    parts = Path(script).with_suffix("").parts
    name = parts[1] if parts[0] == "scripts" else ".".join(parts).replace("-", "_", 1)
    return importlib.import_module(name)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        code: what it exited with; -n where signal n ended it.
        seconds, busy: how long it took, and how long it kept a processor busy, which others that
            run do not change.
        megabytes: the most memory it had, above that of its start.
        late: whether it was ended because its time was over.
    """

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float
    late: bool = False
    busy: float = 0.0


def memory(field: str) -> float:
    """Megabytes of this process: VmRSS in memory, VmSize of addresses."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Process:
    """A script's main with these flags, started in ``folder``.

    limits: called in the process before it begins. bounded: whether it may get only so many
    addresses.
    """

    def __init__(
        self,
        script: str,
        flags: Sequence[str],
        folder: Path,
        limits: Callable[[], None] = lambda: None,
        bounded: bool = True,
    ):
        self.said = Path(tempfile.mkdtemp(prefix="said."))
        self.started = time.monotonic()
        module = module_of(script)
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this process has threads: none is at work
            self.pid = os.fork()
        if self.pid == 0:
            self._run(module, list(flags), folder, limits, bounded)

    def _run(self, module, flags: list[str], folder: Path, limits, bounded: bool) -> None:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as in any process that begins
            os.setsid()
            # Not the one that all processes share: who is killed while it holds that stops all.
            tqdm.set_lock(threading.RLock())
            (self.said / "start").write_text(str(memory("VmRSS")))
            os.chdir(folder)
            for number, name in ((1, "out"), (2, "err")):
                file = os.open(self.said / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
                os.dup2(file, number)
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")
            sys.stderr = io.TextIOWrapper(
                io.FileIO(2, "w", closefd=False), "utf-8", errors="backslashreplace"
            )
            warnings.resetwarnings()
            for kind in HIDDEN:
                warnings.simplefilter("ignore", kind)
            logging.getLogger("DiffRec").handlers = []
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if bounded:
                most = int((memory("VmSize") + GUARD) * 2**20)
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            sys.argv = [module.__file__, *flags]
            limits()
            command(lambda: module.main(flags))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except KeyboardInterrupt:  # a SIGTERM before the first line above
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send a signal to it and to what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, how)

    def wait(self, seconds: float) -> Outcome | None:
        """Its outcome once it has ended; None if that takes more than so many seconds."""
        until = time.monotonic() + seconds
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                return None
            time.sleep(0.003)
        start, *texts = (
            path.read_text(errors="replace") if path.is_file() else ""
            for path in (self.said / "start", self.said / "out", self.said / "err")
        )
        shutil.rmtree(self.said)
        return Outcome(
            os.waitstatus_to_exitcode(status), *texts, time.monotonic() - self.started,
            usage.ru_maxrss / 1024 - float(start or 0), busy=usage.ru_utime + usage.ru_stime,
        )  # fmt: skip

    def finish(self, seconds: float) -> Outcome:
        """Its outcome; it is killed when the time is over."""
        found = self.wait(seconds)
        if found is None:
            self.kill()
            found = dataclasses.replace(self.wait(60), late=True)
        return found


def run(script: str, flags: Sequence[str], folder: Path, seconds: float = 60, **how) -> Outcome:
    """Start a process, wait for it, and have its outcome."""
    return Process(script, flags, folder, **how).finish(seconds)


def files_in(folder: Path) -> dict[str, str]:
    """A hash of each file under a folder, links not followed, by its path there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() or path.is_dir():
            found[name] = "link" if path.is_symlink() else "folder"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "special"
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What was written, removed or made between two looks at a folder."""
    return sorted(n for n in {*before, *after} if before.get(n) != after.get(n))


@contextlib.contextmanager
def workplace(prefix: str) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
