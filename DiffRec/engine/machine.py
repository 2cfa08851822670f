"""What a run finds and uses: devices, memory, and the version of the code."""

import contextlib
import logging
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from DiffRec.data_utils import IS_CHECKOUT, REPOSITORY
from DiffRec.engine.errors import InputError

log = logging.getLogger(__name__)


def choose_device(cuda: bool | None, gpu: str) -> torch.device:
    """The GPU numbered ``gpu``, if there is one and ``cuda`` does not refuse it; else the CPU. Of
    several processes that torchrun started here each has a GPU of its own, in order."""
    if cuda is False or not torch.cuda.is_available():
        if cuda:
            log.warning("no GPU is available here: running on the CPU.")
        return torch.device("cpu")
    gpu = os.environ.get("LOCAL_RANK", gpu)
    if not gpu.isdigit() or int(gpu) >= torch.cuda.device_count():
        raise InputError(f"there is no GPU {gpu}: {torch.cuda.device_count()} are visible.")
    return prepared_device(torch.device("cuda", int(gpu)))


def prepared_device(device: str | torch.device) -> torch.device:
    """A device by its name; on a GPU equal seeds give equal results from here on. InputError for
    one that is not here."""
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        if "out of memory" in str(error):
            raise InputError(f"the device {device} has no memory left.") from error
        raise InputError(f"there is no device {device} here.") from error
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # The faster forms of attention add up in any order, and only warn of it.
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cudnn.allow_tf32 = False  # for recurrent layers and convolutions
        torch.cuda.reset_peak_memory_stats(device)
    return device


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MB (2**20 bytes): of the GPU where one is used, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # the resource module would count the parent's memory at the fork too
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    per_unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_unit


@contextlib.contextmanager
def precision_of_products(precision: str) -> Iterator[None]:
    """Within, a GPU multiplies float32 numbers in TF32 if ``precision`` is that, else exactly."""
    if precision == "tf32" and not torch.cuda.is_available():
        log.warning("precision tf32 is for GPUs: here it is float32.")
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def available_memory_mb(device: torch.device | None = None) -> float:
    """Memory in MB that a new array may take, as far as the system tells; else no limit."""
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**20
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    return float("inf")


def code_version() -> str | None:
    """The commit of this checkout, with "+" if its code differs; None outside of git."""
    if not IS_CHECKOUT:  # a repository around an installed package is not this one
        return None
    git = ["git", "--no-optional-locks", "-C", str(REPOSITORY)]  # a kill leaves no index.lock
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def machine(device: torch.device) -> dict:
    """What the numbers were made on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": code_version(),
    }
