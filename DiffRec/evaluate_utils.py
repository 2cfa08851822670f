"""Full-ranking evaluation: every item a user has not interacted with is ranked.

The conventions are those of the authors' release. For validation the train items are masked; for
test the train and validation items are, while the input is still train alone unless ``tst_w_val``.
Where others differ, a named argument says so, or the data set itself (`Dataset.evaluation`).
"""

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from DiffRec.data_utils import Dataset, require_dataset
from DiffRec.engine.errors import InputError, require_built, whole_number
from DiffRec.engine.ranks import ALONE, Ranks
from DiffRec.interactions import Interactions, put

PUBLISHED_METRICS = ("precision", "recall", "ndcg", "mrr")
OF_LISTS = ("coverage", "gini")  # of all users' lists together
OF_ALL_ITEMS = (*OF_LISTS, "novelty")  # which a process that has some items alone can not tell
METRICS = (*PUBLISHED_METRICS, "hit", "hr", "map", "novelty", *OF_LISTS)
CUT_OFFS = (10, 20, 50, 100)
RECALL_DENOMINATORS = ("relevant", "min_k")
METRIC_USERS = ("all", "with_items")

WIDE = 20_000  # items, from where on torch.topk selects on a CPU too

Scorer = Callable[[Interactions], torch.Tensor]  # B rows of interactions → (B, I) scores
OwnMetric = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # see `evaluate`


def words(value: Any) -> Any:
    """The names in a,b or "a b" or [a,b]."""
    return tuple(re.findall(r"[^][,\s]+", value)) if isinstance(value, str) else value


def mask_seen(scores: torch.Tensor, seen: Interactions) -> torch.Tensor:
    """Set the scores, (B, I), of each row's seen items to -inf, in place."""
    put(scores, seen.row_index(), seen.items.long(), -torch.inf)
    return scores


@functools.lru_cache(maxsize=4)
def places_of_ties(
    n: int, device: torch.device, first: int = 0, stop: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of equal scores comes first, for the columns first..stop-1 of n: each column's place,
    (I,) int32, of which the smaller is the earlier, and the columns in the order of their places.

    The order is that of (number + 1) · 2654435769 mod 2³² (Fibonacci hashing), in which every
    stretch of columns is spread evenly over all places. So no stretch is preferred, such as the
    last items of a data set, which may be those that train lacks; and devices and libraries agree.
    """
    numbers = torch.arange(n, device=device)
    order = ((numbers + 1) * 2_654_435_769 % 2**32).argsort()
    places = torch.empty_like(order).scatter_(0, order, numbers)[first:stop].int()
    return places, places.argsort()


Places = tuple[torch.Tensor, torch.Tensor]
LOOK, ROWS_AT_ONCE = 2048, 64  # columns in which equal scores are looked for first; rows in all


def top_k(scores: torch.Tensor, k: int, ties: Places | None = None) -> torch.Tensor:
    """(B, k) int64: the columns of the k largest scores of each row, best first, and those of equal
    ones by ``ties``, `places_of_ties`."""
    # The one behind the list tells whether equal scores lie on both sides of its end. On a CPU
    # NumPy's selection is as fast as torch.topk for thousands of items; for 94,949 items torch.topk
    # takes a fifth of its time.
    more = min(k + 1, scores.shape[1])
    if scores.device.type != "cpu" or scores.shape[1] > WIDE:
        values, items = scores.topk(more, dim=1)
    else:
        first = scores.shape[1] - more
        items = torch.from_numpy(np.argpartition(scores.numpy(), first, axis=1)[:, first:])
        values, order = scores.gather(1, items).sort(dim=1, descending=True)
        items = items.gather(1, order)
    alike = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    items, values = items[:, :k], values[:, :k]
    places, by_place = places_of_ties(scores.shape[1], scores.device) if ties is None else ties
    rows = alike[:, k - 1 :].any(dim=1).nonzero().squeeze(1)
    if len(rows):
        items[rows] = ended_by_place(items[rows], values[rows], scores, rows, by_place)
    rows = alike.any(dim=1).nonzero().squeeze(1)
    if len(rows):
        items[rows] = in_order(items[rows], values[rows], places)
    return items


def in_order(items: torch.Tensor, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Lists, (B, k), by their values, and where these are equal by the places of their items."""
    early = places[items].argsort(dim=1)
    order = values.gather(1, early).argsort(dim=1, descending=True, stable=True)
    return items.gather(1, early.gather(1, order))


def ended_by_place(
    items: torch.Tensor, values: torch.Tensor, scores: torch.Tensor, rows: torch.Tensor,
    by_place: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The lists, (B, k), of ``rows`` of the scores, but of those that have the last score the ones
    whose place is the first of all: nearly always they are among the first LOOK columns."""
    k, last = items.shape[1], values[:, -1:]
    above = (values > last).sum(dim=1, keepdim=True)
    some = by_place[: max(LOOK, k)]
    equal = scores[rows[:, None], some] == last
    first = earliest(equal, some, k)
    too_few = (equal.sum(dim=1, keepdim=True) < k - above).squeeze(1).nonzero().squeeze(1)
    for part in too_few.split(ROWS_AT_ONCE):
        first[part] = earliest(scores[rows[part]][:, by_place] == last[part], by_place, k)
    ranks = torch.arange(k, device=scores.device)
    return torch.where(ranks < above, items, first.gather(1, (ranks - above).clamp(min=0)))


def earliest(equal: torch.Tensor, columns: torch.Tensor, k: int) -> torch.Tensor:
    """(B, k): of ``columns`` the first where ``equal``, (B, n), is so."""
    n = equal.shape[1]
    numbers = torch.arange(n, device=equal.device, dtype=torch.int32)
    return columns[torch.where(equal, numbers, n).topk(k, dim=1, largest=False).indices]


def are_relevant(
    items: torch.Tensor, relevant: Interactions, table: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, k) bool: is each of the items, (B, k), one of the row's relevant ones?

    table: (B or more, I) bool to work in, all False, as it is again afterwards.
    """
    if table is None:
        shape = len(relevant), relevant.n_items
        table = torch.zeros(shape, dtype=torch.bool, device=items.device)
    places = relevant.row_index(), relevant.items.long()
    put(table, *places, True)
    found = table[: len(items)].gather(1, items)
    put(table, *places, False)
    return found


def ranking_metrics(
    hits: torch.Tensor,
    n_relevant: torch.Tensor,
    topN: Sequence[int],
    recall_denominator: str = "relevant",
    metrics: Sequence[str] = PUBLISHED_METRICS,
) -> torch.Tensor:
    """Metrics of each user at each cut-off.

    With h_r = 1 if rank r is a hit, n relevant items and cut-off K:

        precision@K = Σ_{r≤K} h_r / K
        recall@K    = Σ_{r≤K} h_r / n                    (min(K, n) with "min_k")
        ndcg@K      = Σ_{r≤K} h_r / log₂(r + 1)  /  Σ_{r≤min(K, n)} 1 / log₂(r + 1)
        mrr@K       = 1 / (smallest r ≤ K with h_r = 1), or 0
        hit@K       = 1 if any h_r = 1 with r ≤ K, or 0; hr@K is another name of it
        map@K       = Σ_{r≤K} h_r precision@r / min(K, n)

    hits: (B, k) bool, best rank first; a cut-off beyond k counts the missing ranks as misses.
    n_relevant: (B,). metrics: which of these. Returns (B, len(metrics), len(topN)) float64, zeros
    for users without relevant items.
    """
    hits, width = hits.double(), hits.shape[1]
    ranks = torch.arange(1, max(*topN, width) + 1, device=hits.device)
    discount = 1 / torch.log2(ranks.double() + 1)
    n = n_relevant.double().clamp(min=1)

    n_hits, ideal, ranks = hits.cumsum(dim=1), discount.cumsum(dim=0), ranks[:width]
    dcg = (hits * discount[:width]).cumsum(dim=1)
    reciprocal_rank = (hits / ranks).cummax(dim=1).values  # the first hit's is the largest
    precisions = (hits * n_hits / ranks).cumsum(dim=1)
    columns = []
    for k in topN:
        at_most_k, last = n.clamp(max=k), min(k, width) - 1  # behind the list all ranks are misses
        any_hit = (n_hits[:, last] > 0).double()
        of_cut = {
            "precision": n_hits[:, last] / k,
            "recall": n_hits[:, last] / (n if recall_denominator == "relevant" else at_most_k),
            "ndcg": dcg[:, last] / ideal[at_most_k.long() - 1],
            "mrr": reciprocal_rank[:, last],
            "hit": any_hit,
            "hr": any_hit,
            "map": precisions[:, last] / at_most_k,
        }
        chosen = [of_cut[metric] for metric in metrics]
        columns.append(torch.stack(chosen, dim=1) if chosen else hits.new_zeros(len(hits), 0))
    values = torch.stack(columns, dim=2)
    return torch.where((n_relevant > 0)[:, None, None], values, 0.0)


class Lists:
    """Metrics of what is recommended, be it relevant or not, from the top-k lists of all users.

    With I items, U users, U_i of whom have item i in train, and c_i lists that hold i up to rank K:

        coverage@K = the share of the I items with c_i > 0
        gini@K     = Σ_i (2 i - I - 1) c_i / (I Σ_i c_i) with the c_i ascending: 0 if all are equal
        novelty@K  = the mean over a list's items of -log₂(max(U_i, 1) / U), averaged over users

    Seen items, which fill up the list of a user who has fewer than K others, are not counted.
    """

    def __init__(self, train: Interactions, topN: Sequence[int]):
        self.n_items, self.topN = train.n_items, topN
        self.counts = torch.zeros(len(topN), train.n_items, device=train.device)
        owners = torch.bincount(train.items, minlength=train.n_items).clamp(min=1)
        self.information = -torch.log2(owners.double() / max(len(train), 1))

    def add(self, items: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Count the lists ``items``, (B, k), where ``counted``, (B, k); the users' novelty,
        (B, len(topN)) float64."""
        found = []
        for row, k in enumerate(self.topN):
            listed, where = items[:, :k], counted[:, :k]
            self.counts[row] += torch.bincount(listed[where], minlength=self.n_items)
            information = (self.information[listed] * where).sum(dim=1)
            found.append(information / where.sum(dim=1).clamp(min=1))
        return torch.stack(found, dim=1)

    def value(self, metric: str, row: int) -> float:
        """coverage or gini at cut-off topN[row]."""
        counts = self.counts[row].double().sort().values
        if metric == "coverage":
            return (counts > 0).double().mean().item()
        i = torch.arange(1, self.n_items + 1, device=counts.device)
        total = self.n_items * counts.sum().clamp(min=1)
        return ((2 * i - self.n_items - 1) * counts).sum().item() / total.item()


def scorer_of(source: Any, dataset: Dataset) -> Scorer:
    """A function of rows whose scores may be written to, whatever gives them: see `evaluate`."""
    if hasattr(source, "scorer"):
        return source.scorer()  # a model makes new ones for each call
    if callable(source):
        return lambda batch: numbers(source(batch)).to(batch.device, copy=True)
    places = places_of(dataset)
    import scipy.sparse  # here, since it takes a tenth of a second

    if torch.is_tensor(source) and source.layout != torch.strided:
        coo = source.detach().cpu().to_sparse_coo().coalesce()
        if coo.dense_dim():  # whole rows are stored, or none
            source = numbers(coo)
        else:
            entries = numbers(coo.values()).numpy(), tuple(coo.indices().numpy())
            source = scipy.sparse.coo_array(entries, shape=tuple(source.shape))
    elif not (torch.is_tensor(source) or scipy.sparse.issparse(source)):
        source = array_of(source)
    if tuple(source.shape) != (dataset.n_users, dataset.n_items):
        raise InputError(
            f"scores must have shape {(dataset.n_users, dataset.n_items)}, a row for each user "
            f"and a column for each item of {dataset.name}, but have {tuple(source.shape)}."
        )
    if scipy.sparse.issparse(source):
        source = source.tocsr()

    def score(batch: Interactions) -> torch.Tensor:
        of_batch: Any = places[batch.users]
        rows = source[of_batch if torch.is_tensor(source) else of_batch.numpy()]  # a copy
        return numbers(rows).to(batch.device)

    return score


def places_of(dataset: Dataset) -> torch.Tensor:
    """By the number of a user which row of the data set is hers, -1 for others."""
    users = dataset.train.users
    if users is None:
        raise InputError(f"{dataset.name}'s rows are of no users: give a function of rows.")
    places = torch.full((int(users.max()) + 1 if len(users) else 0,), -1)
    places[users] = torch.arange(len(users))
    if not torch.equal(places[users], torch.arange(len(users))):
        raise InputError(f"{dataset.name} has a user twice: give a function of rows.")
    return places


def array_of(found: Any) -> np.ndarray:
    """As an array of numbers, -inf where it is masked; InputError for what is none."""
    try:
        found = np.asarray(filled(found))
    except ValueError as error:  # rows of several lengths
        raise InputError(f"scores are no array: {error}") from error
    if found.dtype.kind not in "biuf":
        raise InputError(f"scores must be real numbers, but are of type {found.dtype}.")
    return found


def filled(found: Any) -> Any:
    """An array with -inf where it is masked."""
    return np.ma.filled(found.astype(np.float64), -np.inf) if np.ma.isMA(found) else found


def numbers(found: Any) -> torch.Tensor:
    """Scores of any kind as a dense tensor; InputError for what is no array of real numbers."""
    if hasattr(found, "toarray"):  # of SciPy, sparse
        found = found.toarray()
    if not torch.is_tensor(found):
        found = array_of(found)
        native = found.dtype.newbyteorder("=") if found.dtype.itemsize <= 8 else np.float64
        found = torch.from_numpy(np.require(found, native, "W"))
    if found.is_complex():
        raise InputError(f"scores must be real numbers, but are of type {found.dtype}.")
    known = found.dtype in (torch.float16, torch.float32, torch.float64)  # to NumPy too
    return (found if known else found.float()).to_dense()


def checked(scores: torch.Tensor) -> torch.Tensor:
    """Scores in which -inf can stand; InputError for those that rank nothing."""
    scores = scores if scores.is_floating_point() else scores.float()
    if scores.numel() and not scores.amax() < torch.inf:  # a NaN is the largest of all
        raise InputError("scores must be numbers or -inf, but some are infinite or no numbers.")
    return scores


def of_rows(scores: torch.Tensor, rows: Interactions, look: bool) -> torch.Tensor:
    """Scores of B rows; InputError for another shape, or values that are no scores, if they are
    looked at."""
    if not torch.is_tensor(scores):
        raise InputError(f"a scorer must give a tensor, but gave {type(scores).__name__}.")
    if tuple(scores.shape) != (len(rows), rows.n_items):
        raise InputError(
            f"scores of {len(rows)} rows must have shape {(len(rows), rows.n_items)}, but have "
            f"{tuple(scores.shape)}."
        )
    return checked(scores) if look else scores


def evaluate(
    scores: Any,
    dataset: Dataset,
    topN: Sequence[int] | None = None,
    batch_size: int = 400,
    tst_w_val: bool | None = None,
    recall_denominator: str = "relevant",
    metric_users: str | None = None,
    metrics: Sequence[str | OwnMetric] | None = None,
    per_user: bool = False,
    rank_seen: bool | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, dict[str, float]] | dict[str, dict[str, np.ndarray]]:
    """{"valid": {"recall@10": …, …}, "test": {…}}, averaged over users, unrounded.

    Args:
        scores: a model; or a function from B rows of interactions to scores, (B, I); or all scores,
            a (U, I) array, tensor or SciPy sparse matrix, in which what is not stored scores 0.
            They are not written to. What scores -inf is not recommended, and never a hit. Items
            that score the same come in a fixed order that prefers none (`places_of_ties`).
        topN, metrics, tst_w_val, metric_users, rank_seen: by default as ``dataset.evaluation``
            says, or else as published: cut-offs 10, 20, 50 and 100, precision, recall, ndcg and
            mrr, over all users, with tst_w_val and rank_seen False.
        tst_w_val: feed train and validation as input for test; costs a second pass.
        recall_denominator: "relevant" (released) or "min_k".
        metric_users: average over "all" users (released: a user without items to find counts 0)
            or only over those "with_items".
        metrics: see `ranking_metrics` and `Lists`; or functions of yours, whose names are theirs,
            from hits, (B, k) bool, numbers of relevant items, (B,), and the items in the lists,
            (B, k), cut off at K, to a number for each user, (B,).
        per_user: give each user's metrics in the place of their means, (U,) float64, NaN for a
            user who is not averaged over; coverage and gini, which no single user has, are left
            out.
        ranks: processes that all call this with the same model, and share the users
            (`DiffRec.engine.ranks.here`); each is given the whole result.

    Validation and test share one pass: the same scores, with one mask and then with both.
    Raises InputError, a ValueError, for names or shapes that are wrong.
    """
    require_dataset(dataset)
    require_built(scores)
    own = {"topN": CUT_OFFS, "metrics": PUBLISHED_METRICS, **dataset.evaluation}
    topN = own["topN"] if topN is None else topN
    metrics = own["metrics"] if metrics is None else metrics
    if tst_w_val is None:
        reads_rows = getattr(scores, "reads_rows", callable(scores))  # else it changes nothing
        tst_w_val = reads_rows and own.get("tst_w_val", False)
    metric_users = metric_users or own.get("metric_users", "all")
    rank_seen = own.get("rank_seen", False) if rank_seen is None else rank_seen
    metrics = list(words(metrics))
    own_metrics = {name_of(metric): metric for metric in metrics if callable(metric)}
    if len({name_of(metric) for metric in metrics}) < len(metrics) or {*own_metrics} & {*METRICS}:
        raise InputError("metrics must have names of their own.")
    cuts = [topN] if np.ndim(topN) == 0 else list(topN)
    topN = [whole_number("a cut-off of topN", cut, 1) for cut in cuts]
    batch_size = whole_number("batch_size", batch_size, 1)
    for name, values, known in (
        ("metrics", [metric for metric in metrics if not callable(metric)], METRICS),
        ("recall_denominator", [recall_denominator], RECALL_DENOMINATORS),
        ("metric_users", [metric_users], METRIC_USERS),
    ):
        for value in values:
            if value not in known:
                raise InputError(f"{name} must be of {', '.join(known)}, got {value}.")
    if not topN:
        raise InputError("topN must hold cut-offs.")
    how = (
        tuple(topN), batch_size, tst_w_val, recall_denominator, metric_users,
        tuple(map(name_of, metrics)), own_metrics, per_user, rank_seen,
    )  # fmt: skip
    ranks = ALONE if per_user else ranks
    if not hasattr(scores, "scorer"):
        with evaluating(scores):
            return _evaluate(scorer_of(scores, dataset), dataset, *how, ranks)
    if scores.shards is None:
        scores.require_data(dataset)
    dataset = dataset.to(scores.device)
    if not dataset.whole:  # else it was prepared before its items were split
        dataset = scores.prepare_data(dataset)
    if scores.shards is not None:
        ranks, dataset = scores.shards, scores.shards.own(dataset)
        require_parts_suffice([*how[5], *(["per_user"] if per_user else [])], own_metrics)
    if scores.n_items != dataset.n_items:
        raise InputError(
            f"the model scores {scores.n_items} items, but {dataset.name} has {dataset.n_items}."
        )
    scores.require_fitted()
    if tst_w_val:
        scores.require_rows("to test it with validation as input too would change nothing")
    with evaluating(scores):
        return _evaluate(scorer_of(scores, dataset), dataset, *how, ranks)


def require_parts_suffice(metrics: Sequence[str], own: Collection[str] = ()) -> None:
    """InputError for what is not told by processes that have some of the items each; ``own`` are
    the names of a user's metrics."""
    for name in metrics:
        if name in (*OF_ALL_ITEMS, "per_user", *own):
            raise InputError(f"item_shards does not go with {name}, which needs all items at once.")


def name_of(metric: "str | OwnMetric") -> str:
    return getattr(metric, "__name__", str(metric))


@contextlib.contextmanager
def evaluating(scores: Any) -> Iterator[None]:
    """Within, a module is not in training mode."""
    was_training = isinstance(scores, torch.nn.Module) and scores.training
    if was_training:
        scores.eval()
    try:
        yield
    finally:
        if was_training:
            scores.train()


@torch.inference_mode()
def _evaluate(
    scorer: Scorer,
    dataset: Dataset,
    topN: tuple[int, ...],
    batch_size: int,
    tst_w_val: bool,
    recall_denominator: str,
    metric_users: str,
    metrics: tuple[str, ...],
    own_metrics: Mapping[str, OwnMetric],
    per_user: bool,
    rank_seen: bool,
    ranks: Ranks,
) -> dict:
    k, device = min(max(topN), dataset.n_items), dataset.train.device
    novel = ["novelty"] if "novelty" in metrics else []
    of_lists = [m for m in metrics if m in OF_LISTS]
    of_hits = [m for m in metrics if m not in (*of_lists, *novel, *own_metrics)]
    of_users = [*of_hits, *novel, *own_metrics]
    sums = torch.zeros(2, len(of_users), len(topN), dtype=torch.float64, device=device)
    lists = [Lists(dataset.train, topN) for _ in range(2)] if of_lists or novel else []
    everyone: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    given, test_input = dataset.input_rows(), dataset.input_rows(True) if tst_w_val else None
    rows, first = min(batch_size, dataset.n_users), dataset.first_item
    ties = places_of_ties(dataset.catalogue, device, first, first + dataset.n_items)
    table = torch.zeros(rows, dataset.n_items, dtype=torch.bool, device=device)
    for start in ranks.mine(range(0, dataset.n_users, batch_size)):
        stop = min(start + batch_size, dataset.n_users)
        train, valid, test = (
            part.slice(start, stop) for part in (dataset.train, dataset.valid, dataset.test)
        )
        # A look makes a GPU wait: on one every batch is not worth it.
        look = start < batch_size * ranks.size or device.type == "cpu"
        scores = of_rows(scorer(given.slice(start, stop)), train, look)
        if not rank_seen:
            mask_seen(scores, train)
        for split, relevant in enumerate((valid, test)):
            if split == 1:
                if test_input is not None:
                    scores = of_rows(scorer(test_input.slice(start, stop)), train, look)
                    if not rank_seen:
                        mask_seen(scores, train)
                if not rank_seen:
                    mask_seen(scores, valid)
            items = top_k(scores, k, ties)
            best = scores.gather(1, items)
            n_relevant = ranks.over_items(relevant.lengths.to(device, non_blocking=True))
            hits = are_relevant(items, relevant, table).logical_and_(best > -torch.inf)
            if ranks.several:
                hits = ranks.best(best, hits, ties[0][items], max(topN))
            values = ranking_metrics(hits, n_relevant, topN, recall_denominator, of_hits)
            if lists:
                counted = best.isfinite()
                if metric_users == "with_items":
                    counted &= (n_relevant > 0)[:, None]
                novelty = lists[split].add(items, counted)
                if "novelty" in metrics:
                    values = torch.cat([values, novelty[:, None]], dim=1)
            for name, give in own_metrics.items():
                cut_lists = [(hits[:, :n], n_relevant, items[:, :n]) for n in topN]
                of_cuts = torch.stack([of_own(name, give, *some) for some in cut_lists], dim=1)
                if metric_users == "with_items":
                    of_cuts[n_relevant == 0] = 0.0
                values = torch.cat([values, of_cuts[:, None]], dim=1)
            sums[split] += values.sum(dim=0)
            if per_user:
                everyone[split].append(values.cpu())

    for parts in (sums, *(found.counts for found in lists)):
        ranks.over_users(parts)
    report: dict[str, dict[str, Any]] = {}
    for split, name in enumerate(("valid", "test")):
        has_items = ranks.over_items(getattr(dataset, name).lengths.to(device)).cpu() > 0
        users = dataset.n_users
        if metric_users == "with_items":
            users = max(int(has_items.sum()), 1)
        means = (sums[split] / users).tolist()
        of_each = torch.cat(everyone[split]) if per_user else None
        if of_each is not None and metric_users == "with_items":
            of_each[~has_items] = torch.nan
        report[name] = {}
        for metric in metrics:
            for column, cut in enumerate(topN):
                if metric in OF_LISTS:
                    if not per_user:
                        report[name][f"{metric}@{cut}"] = lists[split].value(metric, column)
                    continue
                row = of_users.index(metric)
                found = means[row][column] if of_each is None else of_each[:, row, column].numpy()
                report[name][f"{metric}@{cut}"] = found
    return ranks.from_rank_0(report)


def of_own(
    name: str, metric: OwnMetric, hits: torch.Tensor, n_relevant: torch.Tensor, items: torch.Tensor
) -> torch.Tensor:
    """(B,) float64 of a user's function; InputError for another shape, and what is no number."""
    found = torch.as_tensor(metric(hits, n_relevant, items)).to(hits.device, torch.float64)
    if found.shape != n_relevant.shape or not found.isfinite().all():
        raise InputError(
            f"{name} must give a number for each of {len(hits)} users, {(len(hits),)}, but gave "
            f"{tuple(found.shape)}, or some that are none."
        )
    return found


OfUsers = Mapping[str, np.ndarray]  # each user's metrics, (U,) by name


def mean_of_runs(given: OfUsers | Sequence[OfUsers]) -> dict[str, np.ndarray]:
    """Each user's metrics, averaged over runs if they are of several. ValueError, TypeError or
    LookupError for what are no such, and for runs that differ in metrics or users."""
    runs = given if isinstance(given, (list, tuple)) else [given]
    names = list(runs[0])
    if any(set(run) != set(names) for run in runs):
        raise ValueError("runs of other metrics")
    return {
        name: np.mean([np.asarray(run[name], dtype=float) for run in runs], axis=0)
        for name in names
    }


def compare(
    a: OfUsers | Sequence[OfUsers], b: OfUsers | Sequence[OfUsers], confidence: float = 0.95
) -> dict[str, dict[str, float]]:
    """Paired tests of two models on the same users: {"recall@20": {"difference": …, …}, …}.

    a, b: each user's metrics, a split of what `evaluate` gives with ``per_user``; or several of a
    model's, of one seed each, over which each user's are averaged. For each metric

        a, b         the means over the users that both have
        difference   mean of d = a - b, and low, high: its confidence interval
        effect       mean of d over its standard deviation (Cohen's d of paired samples)
        p            of the paired t-test, two-sided
        wilcoxon     p of Wilcoxon's signed-rank test, which asks for no normal distribution
        adjusted     p corrected for the number of metrics (Benjamini and Hochberg)

    by SciPy. Raises InputError if they are not of the same users and metrics.
    """
    from scipy import stats  # here, since it takes most of a second

    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    try:
        first, second = mean_of_runs(a), mean_of_runs(b)
        same = set(first) == set(second) and all(
            first[name].shape == second[name].shape for name in first
        )
    except (TypeError, ValueError, LookupError):
        same = False
    if not same or any(values.ndim != 1 for values in first.values()):
        raise InputError(
            "compare takes each user's metrics of the same users: a split of what evaluate gives "
            "with per_user=True."
        )
    found = {}
    for name in first:
        both = ~(np.isnan(first[name]) | np.isnan(second[name]))
        ours, theirs = first[name][both], second[name][both]
        d = (ours - theirs).round(12)  # means of equal values in another order are equal
        if len(d) < 2:
            raise InputError("a paired test needs at least two users.")
        same = bool((d == d[0]).all())  # then no t-test is defined, and none is needed
        test = stats.ttest_1samp(d, 0) if not same else None
        low, high = test.confidence_interval(confidence) if test else (d[0], d[0])
        certain = 1.0 if d[0] == 0 else 0.0
        sure = np.sign(d[0]) * np.inf if d[0] else 0.0
        found[name] = {
            "a": float(ours.mean()), "b": float(theirs.mean()), "difference": float(d.mean()),
            "low": float(low), "high": float(high),
            "effect": float(d.mean() / d.std(ddof=1)) if not same else float(sure),
            "p": float(test.pvalue) if test else certain,
            "wilcoxon": float(stats.wilcoxon(d).pvalue) if d.any() else 1.0,
        }  # fmt: skip
    adjusted = stats.false_discovery_control([row["p"] for row in found.values()])
    for row, p in zip(found.values(), adjusted, strict=True):
        row["adjusted"] = float(p)
    return found
