"""Records of runs, curves and tables of trials that are odd."""

import json
from pathlib import Path

from hypothesis import strategies as st

from hostile.flags import script_lines
from hostile.values import DEEP, VALUES, as_json
from hostile.workshop import Attempt, Kind, Workshop

RECORD_CHANGES = st.one_of(
    st.tuples(st.just("top"), st.sampled_from(
        ["history", "best_epoch", "settings", "seed", "data", "format", "valid"]), VALUES),
    st.tuples(st.just("row"), st.sampled_from(["epoch", "loss", "recall@20", "x"]), VALUES),
    st.tuples(st.just("bytes"), st.binary(max_size=60)),
    st.tuples(st.just("cut"), st.integers(0, 2000)),
    st.tuples(st.just("insert"), st.integers(0, 2000), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("text"), st.sampled_from(["", "[]", "{}", "null", DEEP, "1" * 5000])),
)  # fmt: skip


def make_record(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, (how, *rest) = what
    source = shop.folder / "saved" / "DiffRec"
    if which == "curve.csv":
        (source,) = source.glob("*.csv")
    else:
        source = source / "result.json"
    if which == "trials":
        source = folder / "out" / "EASE_tiny.csv"
        source.parent.mkdir()
        source.write_text(
            "trial,state,seed,valid,best_epoch,epochs,seconds,settings,data,commit,command\n"
            + "".join(
                f'{n},{state},1,{valid},1,1,0.1,"{{""reg"": {reg}}}",{shop.sha256},x,"python '
                f'baselines/main.py --model EASE --dataset tiny --seed 1 --reg {reg}"\n'
                for n, (state, valid, reg) in enumerate(
                    [("done", 0.1, 250.0), ("failed", "", 10.0), ("pruned", 0.05, 500.0)]
                )
            )
        )
    raw = source.read_bytes()
    if how in ("top", "row") and which in ("result.json", "finished"):
        record = json.loads(raw)
        place = record if how == "top" else record["history"][0]
        place[rest[0]] = rest[1]
        raw = as_json(record).encode(errors="replace")
    elif how in ("top", "row"):
        lines = raw.decode().split("\n")
        cells = lines[1].split(",")
        cells[min(len(rest[0]), len(cells)) - 1] = str(rest[1])
        raw = "\n".join([lines[0], ",".join(cells), *lines[2:]]).encode(errors="replace")
    elif how == "bytes":
        raw = rest[0]
    elif how == "cut":
        raw = raw[: rest[0]]
    elif how == "insert":
        raw = raw[: rest[0]] + rest[1] + raw[rest[0] :]
    else:
        raw = (as_json(DEEP) if rest[0] == DEEP else rest[0]).encode()
    if which == "trials":
        source.write_bytes(raw)
        words = script_lines(shop)["scripts/search.py"]
        return Attempt("scripts/search.py", words, ("out", "presets.toml"))
    if which == "finished":
        path = folder / "out" / "runs" / "EASE_tiny_clean_seed1.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(raw)
        words = ["table2", "--datasets", "tiny", "--methods", "EASE", "--seeds", "1", "--dry_run"]
        return Attempt("scripts/reproduce.py", [*words, "--results", "out"], ("out",))
    path = folder / f"x{source.suffix}"
    path.write_bytes(raw)
    return Attempt("scripts/curves.py", [str(path), "--out", "out.png"], ("out.png",))


KINDS = {
    "record": Kind(
        st.tuples(
            st.sampled_from(["result.json", "curve.csv", "trials", "finished"]), RECORD_CHANGES
        ),
        make_record,
    )
}
