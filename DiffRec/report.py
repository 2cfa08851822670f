"""What a run says at its end: the metrics beside the paper's, and the record for --result_json."""

import csv
import json
import platform
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import torch

from DiffRec.data_utils import REPOSITORY
from DiffRec.files import written_whole

PAPER = Path(__file__).parent / "presets" / "paper.toml"


def paper_figures(variant: str, dataset: str, settings: dict | None = None) -> dict[str, float]:
    """The paper's test metrics of a method on a data set; empty where it has none, and for
    settings whose figures must not be compared with them."""
    if settings and (settings["tst_w_val"] or settings["random_noise"]):
        return {}
    paper = tomllib.loads(PAPER.read_text())
    row = paper.get(dataset, {}).get(variant, [])
    return dict(zip(paper["metrics"], row, strict=False))


def paper_resources(variant: str, dataset: str) -> tuple[int, int] | None:
    """Tables 6 and 7: millions of parameters and MB of GPU memory, where the paper gives them."""
    resources = tomllib.loads(PAPER.read_text())["resources"]
    row = resources.get(dataset, {}).get(variant)
    return None if row is None else tuple(row)


def paper_sizes() -> dict[str, tuple[int, int, int]]:
    """Table 1: users, items and interactions of each data set."""
    return {name: tuple(row) for name, row in tomllib.loads(PAPER.read_text())["sizes"].items()}


def metrics_table(valid: dict, test: dict, paper: dict | None = None) -> str:
    """The metrics as aligned text, a row for each."""
    paper = paper or {}
    header = f"{'metric':<14}{'valid':>8}{'test':>8}" + (f"{'paper':>8}" if paper else "")
    lines = [header, "-" * len(header)]
    for metric, value in test.items():
        published = f"{paper[metric]:8.4f}" if metric in paper else ""
        lines.append(f"{metric:<14}{valid[metric]:8.4f}{value:8.4f}{published}")
    return "\n".join(lines)


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


def available_memory_mb() -> float:
    """Memory in MB that a new array may take, as far as the system tells; else no limit."""
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    return float("inf")


def code_version() -> str | None:
    """The commit of this checkout, with "+" if its code differs; None outside of git."""
    git = ["git", "-C", str(REPOSITORY)]
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


def write_json(path: Path, record: dict) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """A line for each of ``rows``, at least one; the first names the columns."""
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
