"""Runs that are killed at random moments, and disks that are full:

python scripts/faults.py [--kills 100] [--seed 1]

A run is killed, by SIGKILL or SIGTERM, until its share of the kills is used up, and then left to
end; by --resume, or by the same command where that is all there is. It must end as the run that
nobody killed: equal results, checkpoints and folders, and no temporary file of a dead process. Then
the disk is full after a random number of bytes: the command must say so in a sentence, and what was
there before must be there still.
"""

import csv
import dataclasses
import itertools
import json
import random
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sandbox
from hostile.workshop import Workshop, workshop
from safetensors import SafetensorError
from safetensors.torch import load_file

from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.settings import Positive, Seed
from DiffRec.engine.variant import variant_of

SAME = ("best_epoch", "epochs", "valid", "test", "history", "settings", "seed", "data", "metrics")
RUNS = {
    "DiffRec": ["--dims", "[6]", "--steps", "3", "--lr", "0.01", "--epochs", "60"],
    "L-DiffRec": ["--mlp_dims", "[6]", "--in_dims", "[8]", "--n_cate", "2", "--epochs", "40"],
    "T-DiffRec": ["--dims", "[6]", "--steps", "3", "--lr", "0.01", "--epochs", "60"],
    "LT-DiffRec": ["--mlp_dims", "[6]", "--in_dims", "[8]", "--n_cate", "2", "--epochs", "40"],
    "LightGCN": ["--emb_size", "6", "--epochs", "60"],
    "MultiVAE": ["--dims", "[6]", "--epochs", "60", "--ema", "0.9"],
    "EASE": [],
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A command that can be killed and called again.

    Attributes:
        result: what it makes, a file or a folder, by its path where it is called.
        bounded: whether its calls get a limit of memory, as `sandbox` sets it.
    """

    name: str
    script: str
    flags: list[str]
    result: str
    bounded: bool = True


def scenarios(shop: Workshop) -> list[Scenario]:
    """One for each kind of work."""
    found = []
    for name, words in RUNS.items():
        variant = variant_of(name)
        script = str(variant.folder.relative_to(REPOSITORY) / "main.py")
        flags = [*variant.flags, "--data_path", str(shop.data), "--preset", "none", *words,
                 "--cuda", "0", "--eval_every", "2", "--patience", "1000", "--resume",
                 "--save_path", "saved", "--result_json", "result.json"]  # fmt: skip
        found.append(Scenario(name, script, flags, "result.json"))
    found += [
        Scenario(
            "prepare_data", "scripts/prepare_data.py",
            [str(shop.tables["csv"]), "--format", "csv", "--out", "out", "--core", "2"], "out",
        ),
        Scenario(
            "search", "scripts/search.py",
            ["--model", "EASE", "--dataset", "tiny", "--trials", "20", "--seeds", "2",
             "--out", "out", "--presets", "presets.toml"], "out/EASE_tiny.csv",
        ),
        Scenario(
            "table", "scripts/reproduce.py",
            ["table2", "--datasets", "tiny", "--methods", "EASE,MultiVAE", "--seeds", "1",
             "--run_flags", "--epochs 30 --eval_every 2 --patience 1000 --topN [10,20]",
             "--results", "out"], "out/runs", bounded=False,
        ),
    ]  # fmt: skip
    return found


def outcome_of(path: Path) -> Any:
    """What a run has made, less what may differ from one run to another: times and machines."""
    if path.suffix == ".json":
        record = json.loads(path.read_text())
        return {name: record.get(name) for name in SAME}
    if path.suffix == ".csv":
        with path.open(newline="") as file:  # in any order: trials are drawn
            columns = "state", "seed", "valid", "best_epoch", "settings"
            return sorted([row[name] for name in columns] for row in csv.DictReader(file))
    if path.name == "runs":
        return {inner.name: outcome_of(inner) for inner in sorted(path.glob("*.json"))}
    return sandbox.files_in(path)


def weights_in(folder: Path) -> dict:
    """The bytes of all checkpoints in a folder."""
    return {
        f"{path.name} {name}": tensor.numpy().tobytes()
        for path in sorted(folder.glob("saved/*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def temporary(folder: Path) -> list[str]:
    """Files that only a run at work may have."""
    return sorted(path.name for path in folder.rglob(".*"))


@dataclasses.dataclass
class Tally:
    """How often something was tried, how often it went as promised, and what did not."""

    tried: int = 0
    kept: int = 0
    kills: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, problem: str | None) -> None:
        self.tried += 1
        self.kept += problem is None
        if problem:
            self.failures.append(problem)
            print(f"  broken: {problem}", flush=True)


def unbroken(scenario: Scenario, folder: Path) -> tuple[float, Any, dict]:
    """Seconds, outcome and weights of a run that nobody kills."""
    done = sandbox.run(scenario.script, scenario.flags, folder, 300, bounded=scenario.bounded)
    if done.code:
        raise RuntimeError(f"{scenario.name} does not run: {done.err}")
    return done.seconds, outcome_of(folder / scenario.result), weights_in(folder)


def killed(
    scenario: Scenario, kills: int, draw: random.Random, known: tuple[float, Any, dict]
) -> tuple[int, str | None]:
    """How often a run was really killed, and what its end differs in from the unbroken one's."""
    seconds, wanted, weights = known
    done, killed_so_far = None, 0
    with sandbox.workplace("faults.") as folder:
        for _ in range(kills):
            how = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            process = sandbox.Process(
                scenario.script, scenario.flags, folder, bounded=scenario.bounded
            )
            done = process.wait(draw.uniform(0, seconds))
            if done is None:
                process.kill(how)
                ended = process.finish(60)
                killed_so_far += ended.code != 0
                if ended.code not in (-how, 130, 0):
                    return killed_so_far, f"signal {how} gave {ended.code}: {ended.err[-300:]}"
                if how == signal.SIGTERM:  # of a group the runs below may need a moment
                    process.kill(signal.SIGKILL)
            elif done.code:
                return killed_so_far, f"called again: {done.err[-300:]}"
        done = sandbox.run(scenario.script, scenario.flags, folder, 300, bounded=scenario.bounded)
        if done.code:
            return killed_so_far, f"the last call: {done.err[-300:]}"
        found = outcome_of(folder / scenario.result)
        if found != wanted:
            return killed_so_far, f"another end: {str(found)[:200]} and not {str(wanted)[:200]}"
        if weights_in(folder) != weights:
            return killed_so_far, "other weights"
        left = temporary(folder)
        if left:
            return killed_so_far, f"temporary files are left: {', '.join(left)}"
    return killed_so_far, None


def kill_runs(shop: Workshop, kills: int, seed: int, names: list[str] | None = None) -> dict:
    """A tally for each scenario; together they are killed ``kills`` times."""
    draw, wanted = random.Random(seed), []
    tallies: dict[str, Tally] = {}
    for scenario in scenarios(shop):
        if names is None or scenario.name in names:
            with sandbox.workplace("faults.") as folder:
                wanted.append((scenario, unbroken(scenario, folder)))
            tallies[scenario.name] = Tally()
    slow = 3  # seconds: scripts that start others have a turn in every fourth round
    turns = ((turn, *one) for turn in itertools.count() for one in wanted)
    while (left := kills - sum(tally.kills for tally in tallies.values())) > 0:
        turn, scenario, known = next(turns)
        if known[0] > slow and turn % 4 != 1 and len(wanted) > 1:
            continue
        number, problem = killed(scenario, min(draw.choice((1, 2, 3)), left), draw, known)
        tallies[scenario.name].kills += number
        tallies[scenario.name].add(problem and f"{scenario.name}: {problem}")
    return tallies


# Full disks --------------------------------------------------------------------------------------


def full_after(size: int):
    """Limits with which no file gets longer than so many bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return limit


def full_commands(shop: Workshop) -> Iterator[tuple[str, str, list[str], str]]:
    """Name, script and flags of what writes, and what it writes."""
    (saved,) = (shop.folder / "saved" / "DiffRec").glob("*.safetensors")
    serve = ["--checkpoint", str(saved), "--data_path", str(shop.data), "--cuda", "0"]
    yield "recommend .csv", "DiffRec/inference.py", [*serve, "--recommend", "out.csv"], "out.csv"
    parquet = [*serve, "--recommend", "out.parquet"]
    yield "recommend .parquet", "DiffRec/inference.py", parquet, "out.parquet"
    yield "export_vectors", "DiffRec/inference.py", [*serve, "--export_vectors", "out"], "out"
    yield "convert", "DiffRec/inference.py", [*serve, "--convert", "x.safetensors"], "x.safetensors"
    yield "result", "DiffRec/inference.py", [*serve, "--result_json", "x.json"], "x.json"
    table = [str(shop.tables["csv"]), "--format", "csv", "--core", "2", "--out", "out"]
    yield "prepare_data", "scripts/prepare_data.py", table, "out"


def fill_disk(script: str, flags: list[str], made: str, draw: random.Random) -> str | None:
    """What is lost, if anything, when a file cannot be written to its end."""
    with sandbox.workplace("full.") as folder:
        first = sandbox.run(script, flags, folder)
        if first.code:
            return f"does not run: {first.err[-200:]}"
        before = sandbox.files_in(folder)
        inside = folder / made
        largest = max(
            p.stat().st_size for p in ([inside] if inside.is_file() else inside.rglob("*"))
        )
        size = draw.randrange(largest)
        done = sandbox.run(script, flags, folder, limits=full_after(size))
        lines = done.err.splitlines()
        if done.code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
            return f"{size} of {largest} bytes: exit code {done.code}: {done.err[-300:]}"
        lost = sandbox.changed(before, sandbox.files_in(folder))
        return f"{size} of {largest} bytes: changed {', '.join(lost)}" if lost else None


def fill_in_training(scenario: Scenario, known: tuple, draw: random.Random) -> str | None:
    """A training whose disk is full for a time, and which then goes on."""
    _, wanted, weights = known
    with sandbox.workplace("full.") as folder:
        part = [*scenario.flags, "--epochs", "10", "--keep_state"]
        first = sandbox.run(scenario.script, part, folder)
        if first.code:
            return f"does not run: {first.err[-200:]}"
        (saved,) = folder.glob("saved/*.safetensors")
        largest = max(path.stat().st_size for path in folder.glob("saved/*"))
        size = draw.randrange(largest)
        done = sandbox.run(scenario.script, scenario.flags, folder, limits=full_after(size))
        lines = done.err.splitlines()
        if done.code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
            return f"{size} of {largest} bytes: exit code {done.code}: {done.err[-300:]}"
        try:
            load_file(saved)
        except (OSError, SafetensorError) as error:
            return f"the checkpoint is lost: {error}"
        if temporary(folder):
            return f"temporary files are left: {temporary(folder)}"
        last = sandbox.run(scenario.script, scenario.flags, folder)
        if last.code:
            return f"it does not go on: {last.err[-300:]}"
        if (outcome_of(folder / scenario.result), weights_in(folder)) != (wanted, weights):
            return "another end than that of the unbroken run"
    return None


def fill_disks(shop: Workshop, times: int, seed: int) -> dict[str, Tally]:
    """Each command so many times on a disk that is full."""
    draw, tallies = random.Random(seed), {}
    for name, script, flags, made in full_commands(shop):
        tallies[name] = Tally()
        for _ in range(times):
            problem = fill_disk(script, flags, made, draw)
            tallies[name].add(problem and f"{name}: {problem}")
    (scenario,) = (s for s in scenarios(shop) if s.name == "DiffRec")
    with sandbox.workplace("full.") as folder:
        known = unbroken(scenario, folder)
    tallies["training"] = Tally()
    for _ in range(times):
        problem = fill_in_training(scenario, known, draw)
        tallies["training"].add(problem and f"training: {problem}")
    return tallies


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--kills", type=checked(Positive), default=100, help="of all runs together")
    parser.add_argument("--full", type=checked(Positive), default=5, help="full disks per command")
    parser.add_argument("--seed", type=checked(Seed), default=1, help="of the moments")
    args = parser.parse_args(argv)
    with workshop() as shop:
        kills = kill_runs(shop, args.kills, args.seed)
        disks = fill_disks(shop, args.full, args.seed)
    print(f"{'killed':<20}{'kills':>8}{'ends':>8}{'as promised':>14}")
    for name, tally in kills.items():
        print(f"{name:<20}{tally.kills:>8}{tally.tried:>8}{tally.kept:>14}")
    total = [sum(getattr(t, n) for t in kills.values()) for n in ("kills", "tried", "kept")]
    print(f"{'all':<20}{total[0]:>8}{total[1]:>8}{total[2]:>14}")
    print(f"\n{'full disk':<20}{'':>8}{'tried':>8}{'as promised':>14}")
    for name, tally in disks.items():
        print(f"{name:<20}{'':>8}{tally.tried:>8}{tally.kept:>14}")
    if any(tally.failures for tally in (*kills.values(), *disks.values())):
        sys.exit(1)


if __name__ == "__main__":
    command(main)
