"""The paper's tables: their methods and data sets, and the Markdown that holds ours beside them."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from DiffRec import load_dataset
from DiffRec.engine.paper import paper_figures, paper_resources, paper_sizes
from DiffRec.engine.variant import TUNED, variant_of
from reproduction import markdown
from reproduction.runs import RESULTS, Run, mean_and_std, of_group

METRICS = {"R@10": "recall@10", "R@20": "recall@20", "N@10": "ndcg@10", "N@20": "ndcg@20"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of methods by metrics on several data sets.

    Attributes:
        proposed: the methods that the paper tests against the best of the others.
        more: methods that the paper does not have, which stand below.
        resources: whether parameters and memory stand beside.
        searched: whether what a search found stands beside.
    """

    title: str
    kind: str  # of the data: clean or noisy
    methods: tuple[str, ...]
    proposed: tuple[str, ...]
    datasets: tuple[str, ...] = ("amazon-book", "yelp", "ml-1m")
    more: tuple[str, ...] = ()
    resources: bool = False
    searched: bool = True

    def rows(self) -> tuple[str, ...]:
        return self.methods + self.more


TABLES = {
    "table2": Table(
        "Table 2: clean training", "clean",
        ("MF", "LightGCN", "CDAE", "MultiDAE", "MultiDAE++", "MultiVAE", "CODIGEM", "DiffRec"),
        ("DiffRec",), more=of_group("simple"),
    ),
    "table3": Table(
        "Table 3: training with natural noises", "noisy", ("LightGCN", "MultiVAE", "DiffRec"),
        ("DiffRec",), more=of_group("simple"),
    ),
    "table4": Table(
        "Table 4: L-DiffRec and DiffRec with natural noises", "noisy", ("DiffRec", "L-DiffRec"),
        ("L-DiffRec",),
    ),
    "table5": Table(
        "Table 5: predicting x₀ or ε", "clean", ("DiffRec", "DiffRec-eps"), ("DiffRec",),
        datasets=("ml-1m",), searched=False,
    ),
    "table6": Table(
        "Table 6: accuracy and resources of L-DiffRec", "clean",
        ("MultiVAE", "DiffRec", "L-DiffRec"), ("DiffRec", "L-DiffRec"), resources=True,
    ),
    "table7": Table(
        "Table 7: training with time", "clean",
        ("ACVAE", "DiffRec", "T-DiffRec", "L-DiffRec", "LT-DiffRec"), ("T-DiffRec", "LT-DiffRec"),
        more=("SASRec",), resources=True,
    ),
}  # fmt: skip
EPSILON = {"DiffRec-eps": ("DiffRec", (("mean_type", "eps"),))}


def run_of(method: str, dataset: str, seed: int) -> Run:
    base, flags = EPSILON.get(method, (method, ()))
    return Run(base, dataset, seed, flags)


def tuned_run_of(method: str, dataset: str, seed: int) -> Run | None:
    """The run with the settings that scripts/search.py found, which may be those of `run_of`; None
    if it has not searched for this method, whose presets may be another's too."""
    base, flags = EPSILON.get(method, (method, ()))
    preset, trials = f"{dataset}{TUNED}", RESULTS / "search" / "tpe" / f"{base}_{dataset}.csv"
    if flags or not trials.is_file() or preset not in variant_of(base).known_presets():
        return None
    tuned, plain = Run(base, dataset, seed, (("preset", preset),)), Run(base, dataset, seed)
    return plain if tuned.settings([]) == plain.settings([]) else tuned


def against_the_best(values: dict[str, list[float]], table: Table) -> dict[str, tuple]:
    """For each proposed method the best of the paper's others, and one-sided p-values: of Welch's
    t-test of both's seeds, NaN where that one has no two, and of a one-sample t-test against its
    mean."""
    from scipy.stats import ttest_1samp, ttest_ind  # here, since it takes most of a second

    others = {
        method: statistics.mean(values[method])
        for method in table.methods
        if method in values and method not in table.proposed
    }
    if not others:
        return {}
    best = max(others, key=others.get)
    found = {}
    for method in table.proposed:
        ours, theirs = values.get(method, ()), values[best]
        if len(ours) > 1:
            one = ttest_1samp(ours, others[best], alternative="greater").pvalue
            both = math.nan
            if len(theirs) > 1:
                both = ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue
            found[method] = best, both, one
    return found


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else "none" if math.isnan(p) else f"{p:.3f}"


def block(
    table: Table, dataset: str, records: dict[str, list[dict]], tuned: dict[str, list[dict]]
) -> str:
    """Markdown of one data set. records: by method, a record for each seed; tuned: likewise, with
    settings that a search found."""
    header = ["method", "seeds"]
    for metric in METRICS:
        header += [f"{metric} paper", "ours", "%", *(["tuned"] if tuned else [])]
    if table.resources:
        sizes = ["M par. paper", "ours", *(["tuned"] if tuned else [])]
        header += [*sizes, "MB paper", "ours"]
    columns = {
        short: {m: [r["test"][name] for r in rows] for m, rows in records.items()}
        for short, name in METRICS.items()
    }
    tests = {short: against_the_best(values, table) for short, values in columns.items()}
    ranked = {
        short: sorted(statistics.mean(values[m]) for m in table.methods if m in values)[::-1]
        for short, values in columns.items()
    }

    lines = markdown.head(header)
    shown = [method for method in table.rows() if method in records]
    first_of_more = next((method for method in shown if method in table.more), None)
    for method in shown:
        if method == first_of_more:
            lines.append("| *not in the paper* |" + " |" * (len(header) - 1))
        paper = paper_figures(method, dataset)
        cells = [method, str(len(records[method]))]
        for short, name in METRICS.items():
            mean = statistics.mean(columns[short][method])
            text = mean_and_std(columns[short][method])
            _, both, one = tests[short].get(method, (None, 1, 1))
            if (one if math.isnan(both) else both) < 0.05:
                text += "\\*"
            if method in table.more:
                text += " †" if ranked[short] and mean > ranked[short][0] else ""
            elif mean == ranked[short][0]:
                text = f"**{text}**"
            elif mean == ranked[short][1]:
                text = f"<u>{text}</u>"
            if name in paper:
                cells += [f"{paper[name]:.4f}", text, f"{100 * (mean / paper[name] - 1):+.1f}"]
            else:
                cells += ["", text, ""]
            if tuned:
                values = [record["test"][name] for record in tuned.get(method, ())]
                cells.append(mean_and_std(values) if values else "")
        if table.resources:
            published = paper_resources(method, dataset) or ("", "")
            memory = statistics.median(r["peak_memory_mb"] for r in records[method])
            cells += [str(published[0]), size_of(records[method])]
            cells += [size_of(tuned.get(method, ()))] if tuned else []
            cells += [f"{published[1]:,}" if published[1] else "", f"{memory:,.0f}"]
        lines.append(markdown.line(cells))

    p_values = [
        f"{method} against {best} {short} {p_value(both)} ({p_value(one)})"
        for short, found in tests.items()
        for method, (best, both, one) in found.items()
    ]
    if p_values:
        lines += ["", "p of Welch's (the one-sample) tests: " + "; ".join(p_values) + "."]
    return "\n".join(lines)


def size_of(records: Sequence[dict]) -> str:
    """Millions of parameters, of the median seed: clusters differ."""
    sizes = [record["parameters"] / 1e6 for record in records]
    return f"{statistics.median(sizes):.1f}" if sizes else ""


LEGEND = (
    "Test metrics, mean ± standard deviation over seeds, and the difference to the paper in %. "
    "Best of the paper's methods in bold, second underlined; \\*: a proposed method is better than "
    "the best of the others with p < 0.05 in Welch's one-sided t-test. (The paper's one-sample "
    "t-test treats the other's mean as known exactly, so that it confirms more, the more seeds the "
    "proposed method alone has; it decides where the other has a single seed.) p is not corrected "
    "for the four metrics."
)
MORE_LEGEND = (
    " †: one that the paper does not have has a higher mean, without a test, than all of the "
    "paper's with the settings of the columns ours. What has no spread "
    "has a single seed, or depends on none."
)
TUNED_LEGEND = (
    "tuned: with the settings that `scripts/search.py` chose on validation (the trials are in "
    "`search/tpe/`, the settings in the presets that end in _tuned)."
)
MEMORY = {
    "cuda": "peak GPU memory",
    "cpu": "peak memory of the whole process (there was no GPU; a process without a model takes "
    "about 250 MB)",
}


Blocks = dict[str, dict[str, list[dict]]]  # by data set and method the records


def page(table: Table, blocks: Blocks, tuned: Blocks) -> str:
    """Markdown of the whole table; ``tuned``: with settings that a search found."""
    parts = [f"## {table.title}", LEGEND + (MORE_LEGEND if table.more else "")]
    if table.resources:
        devices = {
            r["machine"]["device"].split()[0]
            for methods in blocks.values() for rows in methods.values() for r in rows
        }  # fmt: skip
        ours = " or ".join(MEMORY.get(device, device) for device in sorted(devices))
        parts.append(f"The paper's MB are GPU memory, ours are {ours}.")
    if any(tuned.get(dataset) for dataset in blocks):
        parts.append(TUNED_LEGEND)
    for dataset, records in blocks.items():
        parts += [f"### {dataset}", block(table, dataset, records, tuned.get(dataset, {}))]
        searched = {m: len(some) for m, some in tuned.get(dataset, {}).items()}
        if searched:
            told = ", ".join(f"{method} {seeds}" for method, seeds in searched.items())
            parts.append(f"Seeds of what is tuned: {told}.")
    return "\n\n".join(parts)


def sizes(datasets: list[str]) -> tuple[list[dict], str]:
    """Table 1: rows for the CSV, and the Markdown, for the data sets that are here."""
    rows = []
    lines = ["| data set | | users | items | interactions |", "| --- | --- | ---: | ---: | ---: |"]
    published = paper_sizes()
    for name in datasets:
        dataset = load_dataset(name)
        total = sum(len(part.items) for part in (dataset.train, dataset.valid, dataset.test))
        for whose, found in (
            ("paper", published.get(name)),
            ("here", (dataset.n_users, dataset.n_items, total)),
        ):
            if found is None:
                continue
            rows.append(
                {"dataset": name, "whose": whose}
                | dict(zip(("users", "items", "interactions"), found, strict=True))
            )
            cells = " | ".join(f"{size:,}" for size in found)
            lines.append(f"| {name} | {whose} | {cells} |")
    return rows, "## Table 1: sizes of the data sets\n\n" + "\n".join(lines)
