"""The paper's figures: what is varied, the pictures, and whether what the paper saw is seen."""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import pictures

from DiffRec.engine.variant import variant_of
from reproduction.runs import Run, mean_and_std

SHOWN = {"recall@20": "Recall@20", "ndcg@20": "NDCG@20"}
FASTER = "_fast"  # ends the names of presets with which a figure's many runs take less time


@dataclasses.dataclass(frozen=True)
class Panel:
    """One independent variable: its points are labels and the flags that stand for them.

    Attributes:
        shown: what is drawn over it, each on axes of its own: its name in a run's record, and its
            name with unit.
    """

    x_label: str
    points: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    methods: tuple[str, ...] = ("DiffRec",)
    shown: tuple[tuple[str, str], ...] = tuple(SHOWN.items())


# The seeds' values by method, what is shown, and point.
Values = dict[tuple[str, str, str], list[float]]
# Whether it is seen here, None where the seeds confirm neither that nor the contrary; and the
# numbers behind.
Verdict = tuple[bool | None, str]
# What the paper saw, and the verdict on each of what is shown.
Claims = list[tuple[str, dict[str, Verdict]]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """Panels for a data set, what the paper says of them, and a note of ours."""

    title: str
    panels: Callable[[str], tuple[Panel, ...]]
    claims: Callable[[Values, tuple[Panel, ...]], Claims]
    note: str = ""


def published_steps(dataset: str) -> int:
    """T of DiffRec's preset."""
    variant = variant_of("DiffRec")
    return variant.settings.of(variant.known_presets().get(dataset, {})).steps


def varied(flag: str, values: tuple[str, ...], labels: tuple[str, ...] | None = None) -> tuple:
    return tuple(
        (label, ((flag, value),)) for label, value in zip(labels or values, values, strict=True)
    )


def on_both(judge: Callable[[str], Verdict]) -> dict[str, Verdict]:
    """The verdicts on both metrics."""
    return {label: judge(what) for what, label in SHOWN.items()}


def along(values: Values, panel: Panel, what: str, method: str = "DiffRec") -> list[list[float]]:
    """The seeds' values at each of the panel's points."""
    return [values[method, what, label] for label, _ in panel.points]


def above(a: list[float], b: list[float]) -> bool | None:
    """Whether a's mean is above b's; None unless they differ with p < 0.05 in Welch's test."""
    from scipy.stats import ttest_ind  # here, since it takes most of a second

    if min(len(a), len(b)) < 2 or not ttest_ind(a, b, equal_var=False).pvalue < 0.05:
        return None
    return statistics.mean(a) > statistics.mean(b)


def every(found: list[bool | None]) -> bool | None:
    """Whether all hold; None where none is refuted, and not all are confirmed."""
    return False if False in found else None if None in found else True


def against(a: list[float], b: list[float]) -> Verdict:
    """That a is above b."""
    return above(a, b), f"{mean_and_std(a)} against {mean_and_std(b)}"


def best_of(series: list[list[float]]) -> list[float]:
    return max(series, key=statistics.mean)


def steady(series: list[list[float]]) -> Verdict:
    """That all means lie within 5 % of the least."""
    means = [statistics.mean(values) for values in series]
    return max(means) < 1.05 * min(means), f"{min(means):.4f} to {max(means):.4f}"


def noise_panels(dataset: str) -> tuple[Panel, ...]:
    shares = ("0.1", "0.2", "0.3", "0.4", "0.5")
    points = varied("random_noise", shares, tuple(f"{float(s):.0%}" for s in shares))
    points = (("0%", ()), *points)  # which the paper leaves out
    return (Panel("random noise", points, ("LightGCN", "MultiVAE", "DiffRec")),)


def noise_claims(values: Values, panels: tuple[Panel, ...]) -> Claims:
    (panel,) = panels

    def falls(what: str) -> Verdict:
        curves = {method: along(values, panel, what, method)[1:] for method in panel.methods}
        found = [above(curve[0], curve[-1]) for curve in curves.values()]
        ends = (
            f"{method} {statistics.mean(curve[0]):.4f} to {statistics.mean(curve[-1]):.4f}"
            f"{', which is not confirmed' if confirmed is None else ''}"
            for (method, curve), confirmed in zip(curves.items(), found, strict=True)
        )
        return every(found), ", ".join(ends)

    def leads(what: str) -> Verdict:
        ours = along(values, panel, what)[1:]
        others = zip(*(along(values, panel, what, m)[1:] for m in panel.methods[:-1]), strict=True)
        rivals = [best_of(some) for some in others]
        gaps = (
            f"{statistics.mean(a) - statistics.mean(b):+.4f}"
            for a, b in zip(ours, rivals, strict=True)
        )
        found = [above(a, b) for a, b in zip(ours, rivals, strict=True)]
        return every(found), f"to the better of the others: {', '.join(gaps)}"

    return [
        ("every method loses accuracy from 10 % to 50 % noise", on_both(falls)),
        ("DiffRec is the best of the three at every share of noise", on_both(leads)),
    ]


def sampling_panels(dataset: str) -> tuple[Panel, ...]:
    T = published_steps(dataset)
    steps = {0: "0"}  # of T/4 and T/2 that round to the same step the first stays
    for label, share in (("T/4", 0.25), ("T/2", 0.5), ("T", 1)):
        steps.setdefault(round(share * T), f"{label} = {round(share * T)}")
    points = tuple((label, (("sampling_steps", str(n)),)) for n, label in steps.items())
    return (
        Panel("step sampling", (("importance", ()), ("uniform", (("importance_sampling", "0"),)))),
        Panel("inference step T'", points),
    )


def sampling_claims(values: Values, panels: tuple[Panel, ...]) -> Claims:
    sampling, steps = panels
    return [
        (
            "importance sampling beats uniform sampling",
            on_both(lambda what: against(*along(values, sampling, what))),
        ),
        (
            "T' = 0 is the best inference step",
            on_both(
                lambda what: against(
                    along(values, steps, what)[0], best_of(along(values, steps, what)[1:])
                )
            ),
        ),
        (
            "from T/4 to T little changes (within 5 %)",
            on_both(lambda what: steady(along(values, steps, what)[1:])),
        ),
    ]


def noise_scale_panels(dataset: str) -> tuple[Panel, ...]:
    scales = ("0", "1e-5", "1e-4", "5e-3", "1e-2", "1e-1")
    steps = ("2", "5", "10", "40", "50", "100")
    return (
        Panel("noise scale s", varied("noise_scale", scales)),
        Panel("diffusion steps T", varied("steps", steps)),
    )


def noise_scale_claims(values: Values, panels: tuple[Panel, ...]) -> Claims:
    scales, steps = panels

    def some_noise(what: str) -> Verdict:
        none, *some = along(values, scales, what)
        return against(best_of(some), none)

    def too_much(what: str) -> Verdict:
        series = along(values, scales, what)
        return against(best_of(series), series[-1])

    return [
        ("some noise is better than none (s = 0)", on_both(some_noise)),
        ("the best noise scale is better than the largest", on_both(too_much)),
        (
            "more steps change little (within 5 %)",
            on_both(lambda w: steady(along(values, steps, w))),
        ),
    ]


def cluster_panels(dataset: str) -> tuple[Panel, ...]:
    points = varied("n_cate", ("1", "2", "3", "4", "5"))
    resources = (("parameters", "parameters (M)"), ("peak_memory_mb", "peak memory (MB)"))
    name = "number of item clusters C"
    return (
        Panel(name, points, ("L-DiffRec",)),
        Panel(name, points, ("L-DiffRec",), resources),
    )


def cluster_claims(values: Values, panels: tuple[Panel, ...]) -> Claims:
    accuracy, resources = panels

    def loses(what: str) -> Verdict:
        first, *_, last = along(values, accuracy, what, "L-DiffRec")
        return against(first, last)

    def declines(what: str) -> Verdict:
        means = [statistics.mean(v) for v in along(values, resources, what, "L-DiffRec")]
        seen = all(b < a for a, b in itertools.pairwise(means))
        return seen, ", ".join(f"{mean:.4g}" for mean in means)

    return [
        ("accuracy declines from C = 1 to C = 5", on_both(loses)),
        (
            "parameters and memory decline with C",
            {label: declines(what) for what, label in resources.shown},
        ),
    ]


FIGURES = {
    "figure4": Figure("Figure 4: training with random noises", noise_panels, noise_claims),
    "figure5": Figure("Figure 5: importance sampling and T'", sampling_panels, sampling_claims),
    "figure6": Figure(
        "Figure 6: noise scale and diffusion steps",
        noise_scale_panels,
        noise_scale_claims,
        "With s = 0 the reverse chain feeds x̂₀ back T times, as in the release's formulas: what "
        "is lost there is lost by that repetition, not by training without noise alone.",
    ),
    "figure7": Figure(
        "Figure 7: item clusters of L-DiffRec",
        cluster_panels,
        cluster_claims,
        "Where memory is that of the process, without a GPU, it holds scikit-learn from C = 2 on, "
        "which clusters the items, and on ML-1M the parameters saved do not make up for that.",
    ),
}


def run_at(method: str, dataset: str, seed: int, flags: tuple) -> Run:
    """A run of a point, by the method's faster preset where it has one; flags that only repeat the
    preset are left out, so that the run is shared."""
    faster = dataset + FASTER
    if faster in variant_of(method).known_presets():
        flags = (("preset", faster), *flags)
    run, plain = Run(method, dataset, seed, flags), Run(method, dataset, seed)
    return plain if run.settings([]) == plain.settings([]) else run


def values_of(record: dict, what: str) -> float:
    if what == "parameters":
        return record[what] / 1e6
    return record[what] if what in record else record["test"][what]


def runs_of(figure: Figure, dataset: str, seeds: Iterable[int]) -> dict:
    """(panel, method, label) → its runs."""
    return {
        (n, method, label): [run_at(method, dataset, seed, flags) for seed in seeds]
        for n, panel in enumerate(figure.panels(dataset))
        for method in panel.methods
        for label, flags in panel.points
    }


def draw(figure: Figure, dataset: str, found: dict, subtitle: str, folder: Path, name: str) -> None:
    """PNG and SVG; axes begin at 0, so that noise looks small, and more than three stand in two
    columns. found: (panel, method, label) → records."""
    pyplot = pictures.drawing(name)
    panels = figure.panels(dataset)
    axes_in_all = [(n, what) for n, panel in enumerate(panels) for what in panel.shown]
    columns = len(axes_in_all) if len(axes_in_all) <= 3 else 2
    lines = -(-len(axes_in_all) // columns)
    picture, axes = pyplot.subplots(
        lines, columns, figsize=(max(3.6 * columns, 9), 0.9 + 3 * lines), layout="constrained"
    )
    for axis, (n, (key, label)) in zip(axes.ravel(), axes_in_all, strict=True):
        panel = panels[n]
        top = 0.0
        methods = [m for m in panel.methods if any(where[:2] == (n, m) for where in found)]
        for k, method in enumerate(methods):
            points = [p for p, _ in panel.points if found.get((n, method, p))]
            series = [[values_of(r, key) for r in found[n, method, p]] for p in points]
            means = [statistics.mean(s) for s in series]
            spreads = [statistics.stdev(s) if len(s) > 1 else 0.0 for s in series]
            top = max(map(sum, zip([top, *means], [0.0, *spreads], strict=True)))
            axis.errorbar(
                points, means, spreads,
                color=pictures.COLOURS[k], marker=pictures.MARKERS[k], capsize=3, label=method,
                linestyle="none" if len(panel.points) == 2 else "-",
            )  # fmt: skip
        axis.set(xlabel=panel.x_label, ylabel=label)
        axis.margins(x=0.25 if len(panel.points) == 2 else 0.08)
        axis.set_ylim(0, 1.1 * top)
        axis.grid(axis="y", alpha=0.3)
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) > 1:
        picture.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), frameon=False
        )
    picture.suptitle(f"{figure.title}\n{subtitle}", fontsize=11)
    for ending in ("png", "svg"):
        pictures.save(picture, folder / f"{name}.{ending}")
    pyplot.close(picture)


def said(verdicts: dict[str, Verdict]) -> str:
    answers = {True: "yes", False: "no", None: "not confirmed"}
    return "; ".join(
        f"{label} **{answers[seen]}** ({numbers})" for label, (seen, numbers) in verdicts.items()
    )


def page(figure: Figure, name: str, dataset: str, found: dict, subtitle: str) -> str:
    """Markdown: the picture and what it says."""
    panels = figure.panels(dataset)
    values = {
        (method, key, label): [values_of(r, key) for r in records]
        for (n, method, label), records in found.items()
        for key, _ in panels[n].shown
    }
    lines = [f"## {figure.title}", f"![{figure.title}]({name}.png)", f"On {subtitle}."]
    faster = {m for (_, m, _), records in found.items() if records[0]["preset"].endswith(FASTER)}
    if faster:
        lines.append(f"{', '.join(sorted(faster))} ran with a faster preset, {dataset}{FASTER}.")
    try:
        claims = figure.claims(values, panels)
    except KeyError:
        lines.append("Some of its runs are missing, so that the paper's findings are not tested.")
    else:
        lines.append(
            "What the paper finds on Amazon-book, and whether it is seen here. Not confirmed: "
            "Welch's two-sided test of the few seeds shows neither that nor the contrary (p < "
            "0.05, not corrected for the number of comparisons).\n\n"
            + "\n".join(f"- {claim}: {said(verdicts)}" for claim, verdicts in claims)
        )
    return "\n\n".join([*lines, figure.note] if figure.note else lines)
