"""Hostile files and flags, thousands of them, and what the commands make of each:

python scripts/fuzz.py [--minutes 10] [--kinds header tensor …] [--seed 1]

Every input goes to a command in a process of its own. It is kept as promised if the command ends
with exit code 2 and one line on stderr that begins "error: ", maybe after a note on pairs that come
again, or with 0 and output that is sound; in at most 10 s of a processor, with at most 1 GB above
its start, and without touching a file that was not named. What cannot be sound, such as a weight
that is not a number, must be refused. What breaks a promise is printed and kept in --keep, and
found again by the same --seed and --examples.
"""

import dataclasses
import itertools
import json
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import sandbox
from hostile import arrays, checkpoints, flags, records, tables
from hostile.workshop import Attempt, Workshop, workshop

from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder, NotNegative, Positive, Seed

LONGEST = 2000  # letters of a sentence that somebody shall read
# What may stand before an error, of input that was taken.
KNOWN = re.compile(r"[\d,]+ of [\d,]+ rows are of a pair of user and item that comes again: .*")
KINDS = checkpoints.KINDS | arrays.KINDS | tables.KINDS | flags.KINDS | records.KINDS


def unsound(folder: Path) -> str | None:
    """What is wrong with what a command has written, if anything."""
    record = folder / "out.json"
    if record.is_file():
        found = json.loads(record.read_text())
        values = [*found["valid"].values(), *found["test"].values()]
        if not all(math.isfinite(v) and v >= 0 for v in values):
            return f"metrics that cannot be: {values[:3]}"
    lists = folder / "out.csv"
    if lists.is_file() and lists.stat().st_size > 1:
        table = pd.read_csv(lists)
        if "score" in table and not np.isfinite(table["score"]).all():
            return "scores that are not numbers"
    for path in (folder / "out").glob("*.npy"):
        array = np.load(path)
        if (
            array.dtype.kind == "f"
            and not path.stem.endswith("_ratings")
            and not np.isfinite(array).all()
        ):
            return f"{path.name} that are not all numbers"
    return None


def broken(attempt: Attempt, done: sandbox.Outcome, touched: list[str], folder: Path) -> str | None:
    """Which promise was broken, if any."""
    strange = [n for n in touched if not any(
        n == w or n.startswith((f"{w}/", f"{w}.")) or w.startswith(f"{n}/") for w in attempt.writes
    )]  # fmt: skip
    if done.late:
        return f"no answer in {done.seconds:.0f} s"
    if done.busy > sandbox.SECONDS:
        return f"{done.busy:.0f} s"
    if done.megabytes > sandbox.MEGABYTES:
        return f"{done.megabytes:.0f} MB"
    if done.code < 0:
        return f"ended by signal {-done.code}"
    if strange:
        return f"touched {', '.join(strange[:3])}"
    lines = done.err.splitlines()
    if done.code == 2:
        *notes, last = lines or [""]
        if not last.startswith("error: ") or not all(map(KNOWN.fullmatch, notes)):
            return f"{len(lines)} lines of error"
        if len(last) > LONGEST:
            return f"an error of {len(last)} letters"
        if not attempt.own and "not enough memory" in last:
            return "took memory on the word of a file"
        return None
    if done.code == 0:
        if attempt.must_refuse:
            return "accepted what cannot be sound"
        return unsound(folder)
    last = lines[-1] if lines else ""
    return f"exit code {done.code}: {last[:150]}"


@dataclasses.dataclass
class Report:
    """What was tried of one kind: how much, how much of it was refused, and what broke promises."""

    tried: int = 0
    refused: int = 0
    failures: list[tuple[str, tuple, Attempt]] = dataclasses.field(default_factory=list)


def attempted(shop: Workshop, kind: str, what: tuple, keep: Path | None, report: Report) -> None:
    """Make what was drawn, run its command, and note how it went."""
    with sandbox.workplace("fuzz.") as top:
        place = top / "a" / "b" / "c"  # so that ../../x lands where it is seen
        place.mkdir(parents=True)
        attempt = KINDS[kind].make(shop, place, what)
        before = {**sandbox.files_in(top), **looks(shop)}
        done = sandbox.Process(attempt.script, attempt.flags, place).finish(6 * sandbox.SECONDS)
        after = {**sandbox.files_in(top), **looks(shop)}
        touched = [os.path.relpath(name, "a/b/c") for name in sandbox.changed(before, after)]
        reason = broken(attempt, done, touched, place)
        report.tried += 1
        report.refused += done.code == 2
        if reason:
            number = len(report.failures)
            report.failures.append((reason, what, attempt))
            print(f"{kind}: {reason}\n    {what!r:.300}\n    {attempt.script} "
                  f"{shlex.join(attempt.flags)[:600]}", flush=True)  # fmt: skip
            print("".join(f"    | {line[:200]}\n" for line in done.err.splitlines()[-12:]), end="")
            if keep is not None:
                target = keep / f"{kind}-{number}"
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(place, target, ignore=lambda *_: ["fifo"])
                (target / "attempt.txt").write_text(
                    f"{reason}\n{what!r}\n{attempt.script} {shlex.join(attempt.flags)}\n{done.err}"
                )


def looks(shop: Workshop) -> dict[str, str]:
    """How the good files look, which no attempt may touch."""
    return {
        f"workshop {path}": f"{path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in shop.folder.rglob("*") if path.is_file()
    }  # fmt: skip


def trial(shop: Workshop, kind: str, seed: int, examples: int, keep: Path | None, report: Report,
          until: float = math.inf) -> None:  # fmt: skip
    """So many inputs of a kind, drawn by a seed; none is drawn after the time ``until``."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(KINDS[kind].drawn)
    def one(what: tuple) -> None:
        if time.monotonic() < until:
            attempted(shop, kind, what, keep, report)

    one()


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--minutes", type=checked(NotNegative), default=10.0, help="for all kinds")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=checked(Seed), default=1, help="of the first round")
    parser.add_argument(
        "--examples", type=checked(Positive), default=50, help="of each kind in a round"
    )
    parser.add_argument(
        "--keep", type=checked(Folder), default=Path(tempfile.gettempdir(), "fuzz-failures"),
        help="folder for failures",
    )  # fmt: skip
    args = parser.parse_args(argv)
    until = time.monotonic() + 60 * args.minutes
    reports = {kind: Report() for kind in args.kinds}
    with workshop() as shop:
        for seed in itertools.count(args.seed):
            for kind in args.kinds:
                print(f"--seed {seed} --kinds {kind} --examples {args.examples}", flush=True)
                trial(shop, kind, seed, args.examples, args.keep, reports[kind], until)
            if time.monotonic() > until:
                break
    print(f"\n{'kind':<10}{'tried':>8}{'refused':>10}{'as promised':>14}")
    for kind, report in reports.items():
        kept = report.tried - len(report.failures)
        print(f"{kind:<10}{report.tried:>8}{report.refused:>10}{kept:>14}")
    tried = sum(report.tried for report in reports.values())
    failed = sum(len(report.failures) for report in reports.values())
    print(
        f"{'all':<10}{tried:>8}{sum(r.refused for r in reports.values()):>10}{tried - failed:>14}"
    )
    if failed:
        print(f"\n{failed} broke a promise: see above, and {args.keep}.")
        sys.exit(1)


if __name__ == "__main__":
    command(main)
