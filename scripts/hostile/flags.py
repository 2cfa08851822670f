"""Odd flags, of all commands."""

import contextlib
import os
from pathlib import Path

from hypothesis import strategies as st

from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.variant import REGISTRY, variant_of
from hostile.values import NUMBERS, WORDS
from hostile.workshop import RELEASED_NAME, Attempt, Kind, Workshop, save_module

FLAG_WORDS = st.one_of(
    WORDS.filter(lambda text: "\u0000" not in text and len(text) < 10**5),
    NUMBERS.map(str),
    st.text(max_size=8).filter(lambda text: "\u0000" not in text),
    st.sampled_from(["x.csv", "x.foo", "x.json", "x.safetensors", "fifo", "missing/x", "data",
                     "broken.json", "broken.csv", "broken.npy", "--lr 'x", "--epochs 0", "recall"]),
)  # fmt: skip
WRITE = {"save_path", "result_json", "tensorboard", "out", "results", "convert", "recommend",
         "export_vectors", "keep", "presets"}  # fmt: skip
# Who asks for a lot of work gets it: these are not given large numbers.
WORK = {"epochs", "iterations", "max_iter", "layers", "cycles", "threads", "jobs", "seeds",
        "minutes", "kills", "n_cate", "patience", "history_num_per_term", "eval_every", "resamples",
        "synthetic", "examples", "trials", "candidates", "rank", "max_length"}  # fmt: skip


def script_lines(shop: Workshop) -> dict[str, list[str]]:
    """Scripts, and words with which each ends well, soon."""
    good = str(shop.paths["DiffRec"][0])
    record = str(shop.folder / "saved" / "DiffRec" / "result.json")
    table = str(shop.tables["csv"])
    data = ["--data_path", str(shop.data)]
    return {
        "scripts/compare.py": [good, good, *data],
        "scripts/convert_checkpoint.py": [RELEASED_NAME, "out.safetensors", *data],
        "scripts/curves.py": [record, "--out", "out.png"],
        "scripts/data_report.py": [str(shop.data), "--out", "out.png"],
        "scripts/options_page.py": ["--out", "out.md"],
        "scripts/prepare_data.py": [table, "--format", "csv", "--out", "out", "--core", "2"],
        "scripts/reproduce.py": ["table2", "--dry_run", "--results", "out"],
        "scripts/search.py": ["--model", "EASE", "--dataset", "tiny", "--trials", "1",
                              "--seeds", "1", "--out", "out", "--presets", "presets.toml"],
    }  # fmt: skip


SCRIPTS = ("compare", "convert_checkpoint", "curves", "data_report", "options_page", "prepare_data",
           "reproduce", "search")  # fmt: skip
FLAGS_OF_SCRIPTS = {
    "compare": "dataset data_path metrics split gpu out",
    "convert_checkpoint": "variant data_path dataset autoencoder steps dims history recommend",
    "curves": "metric out",
    "data_report": "out check",
    "options_page": "out",
    "prepare_data": "raw out format columns min_rating core protocol ratio noise random_noise seed",
    "reproduce": "datasets dataset methods seeds gpu jobs results run_flags",
    "search": "model dataset ranges trials minutes seeds candidates out presets reg epochs topN",
}


@st.composite
def flags(draw) -> tuple:
    if draw(st.booleans()):
        script = draw(st.sampled_from(SCRIPTS))
        names = FLAGS_OF_SCRIPTS[script].split()
        target = script
    else:
        target = draw(st.sampled_from(list(REGISTRY)))
        variant = variant_of(target)
        serve = draw(st.booleans())
        target = f"{target}{' serve' if serve else ''}"
        options = variant.inference_options if serve else variant.options
        names = sorted({*options.names(), *variant.settings.names()} - {"model", "latent"})
    one = st.tuples(st.sampled_from(names), FLAG_WORDS)
    given = draw(st.lists(one, min_size=1, max_size=2))
    loose = draw(st.sampled_from([[], [], [], [], ["--nonsense", "1"], ["x"], ["--"], ["-h"]]))
    return target, given, loose


def large(text: str) -> bool:
    try:
        return not abs(float(text)) <= 100
    except ValueError:
        return len(text) > 300 or any(part.isdigit() and int(part) > 100
                                      for part in text.strip("[]").split(","))  # fmt: skip


def make_flags(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    target, given, loose = what
    os.mkfifo(folder / "fifo")
    (folder / "data").mkdir()
    for ending in ("json", "csv", "npy"):
        (folder / f"broken.{ending}").write_bytes(b'{"\xff,\n"')
    if target in SCRIPTS:
        script = f"scripts/{target}.py"
        words = script_lines(shop)[script]
        if target == "convert_checkpoint":
            save_module(folder / RELEASED_NAME, "models.DNN.DNN", shop.released["network"])
    else:
        name, _, serve = target.partition(" ")
        variant = variant_of(name)
        script = str(
            variant.folder.relative_to(REPOSITORY) / ("inference.py" if serve else "main.py")
        )
        path, words = shop.paths[name]
        words = words[: words.index("--save_path")]
        if serve:
            words = ["--checkpoint", str(path), "--data_path", str(shop.data), "--cuda", "0"]
        else:
            words = [*words, "--save_path", "saved", "--cuda", "0"]
    writes = ["saved", *(word for word in words if word.startswith(("out", "presets")))]
    more = []
    for flag, value in given:
        if flag in WORK and large(value):
            value = "3"
        if flag in WRITE and value.startswith("/"):
            value = "x"  # the machine's own folders are no place to try
        with contextlib.suppress(UnicodeEncodeError):
            value.encode()
            more += [f"--{flag}={value}"] if value.startswith("-") else [f"--{flag}", value]
        if flag in WRITE and value:
            place = os.path.normpath(os.path.join("/a/b/c/d/e", value))  # as below `place`
            writes.append(os.path.relpath(place, "/a/b/c/d/e"))
    if target == "data_report" and any(flag == "out" for flag, _ in given):
        writes.append("tiny.png")
    return Attempt(script, [*words, *more, *loose], tuple(writes), own=True)


KINDS = {"flag": Kind(flags(), make_flags)}
