"""Metrics against fractions worked out by hand and against the slow form."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import plain
import pytest
import scipy.sparse
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from DiffRec import DiffRec, InputError, Interactions, compare, evaluate, load_dataset
from DiffRec.evaluate_utils import (
    METRICS,
    PUBLISHED_METRICS,
    are_relevant,
    mask_seen,
    places_of_ties,
    ranking_metrics,
    top_k,
)


def test_one_user_by_hand():
    """Hits at ranks 2 and 4 of 5, with 3 relevant items, one of which is never shown."""
    hits = torch.tensor([[0, 1, 0, 1, 0]]).bool()
    values = ranking_metrics(hits, torch.tensor([3]), [1, 2, 5])[0]
    log = math.log2
    dcg2, dcg5 = 1 / log(3), 1 / log(3) + 1 / log(5)
    ideal2, ideal5 = 1 + 1 / log(3), 1 + 1 / log(3) + 1 / log(4)
    expected = [
        [0, Fraction(1, 2), Fraction(2, 5)],
        [0, Fraction(1, 3), Fraction(2, 3)],
        [0, dcg2 / ideal2, dcg5 / ideal5],
        [0, Fraction(1, 2), Fraction(1, 2)],
    ]
    np.testing.assert_allclose(values, np.array(expected, dtype=float), rtol=1e-12)


def test_more_metrics_of_one_user_by_hand():
    """As above: precision is 1/2 at the first hit and 1/2 at the second."""
    hits = torch.tensor([[0, 1, 0, 1, 0]]).bool()
    values = ranking_metrics(hits, torch.tensor([3]), [1, 2, 5], metrics=("hit", "map"))[0]
    expected = [[0, 1, 1], [0, Fraction(1, 2) / 2, Fraction(1, 2) * 2 / 3]]
    np.testing.assert_allclose(values, np.array(expected, dtype=float), rtol=1e-12)


def test_metrics_of_lists_by_hand(save_lists):
    """Two users, four items; in train item 0 has both users, item 1 one, items 2 and 3 none."""
    dataset = load_dataset(data_path=save_lists([(0, 0), (0, 1), (1, 0), (1, 3)], [], [(0, 2)]))
    scores = np.array([[9.0, 8, 2, 1], [9, 2, 1, 0]])
    # Lists: user 0 has 2, 3 and user 1 has 1, 2; what was seen ends them and does not count.
    found = evaluate(scores, dataset, [1, 2, 4], metrics=("coverage", "gini", "novelty"))["test"]
    assert [found[f"coverage@{k}"] for k in (1, 2, 4)] == [0.5, 0.75, 0.75]
    counts = [0, 1, 1, 2]  # of the items, ascending, up to rank 2
    gini = sum((2 * i - 5) * c for i, c in enumerate(counts, 1)) / (4 * sum(counts))
    assert found["gini@2"] == pytest.approx(gini)
    # item 1 and 3 have 1 of 2 users: 1 bit; item 2 has none and counts as 1.
    assert found["novelty@2"] == pytest.approx(1.0)
    (alone,) = evaluate(scores, dataset, [1], metrics=("novelty",), per_user=True)["test"].values()
    assert alone.tolist() == [1.0, 1.0]


def test_the_recall_denominators_differ_when_more_is_relevant_than_shown():
    hits, n_relevant = torch.ones(1, 2).bool(), torch.tensor([8])
    recall = [
        ranking_metrics(hits, n_relevant, [2], d)[0, 1, 0].item() for d in ("relevant", "min_k")
    ]
    assert recall == [0.25, 1.0]


def test_a_user_without_relevant_items_scores_zero():
    values = ranking_metrics(torch.zeros(1, 4).bool(), torch.tensor([0]), [1, 4])
    assert values.eq(0).all()


def test_a_cut_off_beyond_the_list_counts_misses():
    values = ranking_metrics(torch.tensor([[True, False]]), torch.tensor([1]), [10])[0, :, 0]
    np.testing.assert_allclose(values, [0.1, 1, 1, 1])


@given(
    hits=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5),
    more=st.integers(0, 4),
)
def test_metrics_equal_the_slow_form(hits, more):
    n_relevant = [sum(row) + more for row in hits]
    values = ranking_metrics(torch.tensor(hits), torch.tensor(n_relevant), [1, 3, 6])
    for row, n, actual in zip(hits, n_relevant, values, strict=True):
        relevant = {rank for rank, hit in enumerate(row) if hit} | set(
            range(100, 100 + n - sum(row))
        )
        np.testing.assert_allclose(actual, plain.user_metrics(range(6), relevant, [1, 3, 6]))
    assert ((values >= 0) & (values <= 1)).all()
    recall = values[:, 1]
    assert (recall.diff(dim=1) >= 0).all()  # a longer list never lowers recall


def test_top_k_of_a_wide_catalogue(monkeypatch):
    scores = torch.rand(5, 40)
    narrow = top_k(scores, 7)
    monkeypatch.setattr("DiffRec.evaluate_utils.WIDE", 30)
    assert torch.equal(top_k(scores, 7), narrow)


def test_top_k_equals_torchs():
    scores = torch.randn(30, 50).masked_fill(torch.rand(30, 50) < 0.3, -torch.inf)
    for k in (1, 7, 50):
        expected = scores.topk(k, dim=1).values
        assert torch.equal(scores.gather(1, top_k(scores, k)), expected)


@pytest.mark.parametrize("wide", [20_000, 30])
def test_equal_scores_come_in_one_order_on_both_sides_of_the_end(monkeypatch, wide):
    monkeypatch.setattr("DiffRec.evaluate_utils.WIDE", wide)
    torch.manual_seed(0)
    scores = torch.randint(0, 4, (200, 40)).float()
    scores = scores.masked_fill(torch.rand(200, 40) < 0.6, -torch.inf)
    scores[:20] = torch.rand(20, 40)  # rows without equal ones beside those with
    monkeypatch.setattr("DiffRec.evaluate_utils.LOOK", 8)  # and then all columns
    places, by_place = places_of_ties(40, scores.device)
    assert sorted(places.tolist()) == list(range(40))
    assert places[by_place].tolist() == list(range(40))
    for k in (1, 5, 20, 39, 40):
        found = top_k(scores, k)
        for row, items in zip(scores, found, strict=True):
            order = np.lexsort((places.numpy(), -row.numpy()))[:k]
            some = (row[order] > -torch.inf).numpy()
            assert items.numpy()[some].tolist() == order[some].tolist()
            assert len(set(items.tolist())) == k


@pytest.mark.parametrize("n", [100, 1_498, 12_101, 94_949])
def test_equal_scores_prefer_no_stretch_of_items(n):
    """Data sets number the items last that train lacks, and each of them is what somebody seeks."""
    (items,) = top_k(torch.zeros(1, n), 50)
    assert 0 not in items[:5]  # nor the first item, which may be the most popular
    for share in (0.02, 0.1, 0.3, 0.5):
        for start in (0.0, 0.4, 1 - share):
            inside = (items >= start * n) & (items < (start + share) * n)
            assert inside.double().mean().item() == pytest.approx(share, abs=0.045)


def test_top_k_and_masks():
    scores = torch.tensor([[5.0, 4, 3, 2], [1, 2, 3, 4]])
    seen = Interactions.from_pairs(np.array([(0, 0), (1, 3)]), 2, 4)
    relevant = Interactions.from_pairs(np.array([(0, 2), (1, 0)]), 2, 4)
    items, table = top_k(mask_seen(scores, seen), 3), torch.zeros(3, 4, dtype=torch.bool)
    for _ in range(2):
        hits = are_relevant(items, relevant, table)
        assert hits.tolist() == [[False, True, False], [False, False, True]]
        assert not table.any()
    assert torch.equal(are_relevant(items, relevant), hits)


@pytest.fixture
def model(tiny):
    return DiffRec(tiny.n_items, dims=[20], steps=4).eval()


def test_evaluation_equals_the_slow_form(tiny, model):
    topN = [1, 5, 200]
    fast = evaluate(model.scorer(), tiny, topN, batch_size=50)
    slow = plain.evaluate(model, plain.dense_matrix(tiny.train), tiny, topN)
    for split in ("valid", "test"):
        for metric, row in zip(PUBLISHED_METRICS, slow[split], strict=True):
            for k, value in zip(topN, row, strict=True):
                # beyond the catalogue the list ends early, and both say so alike
                assert fast[split][f"{metric}@{k}"] == pytest.approx(value, abs=1e-12)


def test_batch_size_does_not_matter(tiny, model):
    small, large = (evaluate(model.scorer(), tiny, [5], batch_size=b) for b in (7, 1000))
    for split in small:
        assert small[split] == pytest.approx(large[split])


def test_input_masks_and_truth_of_each_split(tiny):
    """Validation: input train. Test: input train, or train and validation with tst_w_val."""
    inputs, everyone = [], {"batch_size": 10**6, "metric_users": "with_items"}

    def scorer(rows):
        inputs.append(rows.dense())
        return torch.rand(rows.dense().shape)

    def perfect(split):
        relevant = getattr(tiny, split).dense()
        return evaluate(lambda rows: relevant.clone(), tiny, [1], **everyone)[split]

    train, valid = tiny.train.dense(), tiny.valid.dense()
    evaluate(scorer, tiny, [5], batch_size=10**6)
    assert len(inputs) == 1
    assert torch.equal(inputs[0], train)
    inputs.clear()
    evaluate(scorer, tiny, [5], batch_size=10**6, tst_w_val=True)
    assert torch.equal(inputs[0], train)
    assert torch.equal(inputs[1], train + valid)
    for split in ("valid", "test"):
        assert perfect(split)["precision@1"] == 1
    # what was seen is never recommended: scoring it highest finds nothing
    seen = train + valid
    masked = evaluate(lambda rows: seen * 9 + tiny.test.dense(), tiny, [1], **everyone)
    assert masked["test"]["precision@1"] == 1


def test_averages_over_users_with_items_only(save_lists):
    dataset = load_dataset(data_path=save_lists([(0, 0), (1, 1), (1, 2)], [(0, 1)], [(0, 2)]))
    both = [
        evaluate(lambda rows: torch.zeros(2, 3), dataset, [3], metric_users=who)
        for who in ("all", "with_items")
    ]
    assert [r["test"]["recall@3"] for r in both] == [0.5, 1.0]


# Scores of any origin


def test_scores_are_taken_as_they_come_and_left_as_they_are(tiny):
    """A function that returns a kept matrix, arrays, tensors and sparse matrices."""
    scores = torch.rand(tiny.n_users, tiny.n_items)
    kept = scores.clone()
    whole = evaluate(scores, tiny, [5], batch_size=50)
    for source in (
        scores.numpy(), scores.double().numpy(), scipy.sparse.csr_matrix(scores.numpy()),
        scipy.sparse.coo_array(scores.numpy()), scores.tolist(), pd.DataFrame(scores.numpy()),
        scores.to_sparse(), scores.to_sparse_csr(), scores.clone().requires_grad_(),
        lambda rows: scores[rows.users[0] : rows.users[-1] + 1],
        lambda rows: scores.numpy()[rows.users[0] : rows.users[-1] + 1],
        lambda rows: scipy.sparse.coo_array(scores[rows.users]),
        scores.numpy().astype(">f4"), scores.numpy().astype(np.longdouble),
        torch.sparse_coo_tensor(
            torch.arange(tiny.n_users)[None], scores, tuple(scores.shape), check_invariants=True
        ),
    ):  # fmt: skip
        for _ in range(2):  # what the first changed, the second would see
            found = evaluate(source, tiny, [5], batch_size=50)
            assert found["valid"] == pytest.approx(whole["valid"])
            assert found["test"] == pytest.approx(whole["test"])
    assert torch.equal(scores, kept)
    integers = (scores * 1e6).long()
    coarse, eighths = scores.bfloat16(), scores.to(torch.float8_e4m3fn)
    for source, same in (
        (integers, integers.float()), (coarse, coarse.float()), (eighths, eighths.float()),
    ):  # fmt: skip
        assert evaluate(source, tiny, [5])["test"] == evaluate(same, tiny, [5])["test"]


@pytest.mark.filterwarnings("error")
def test_scores_may_be_read_only(tiny):
    """Such as those of a file that is mapped into memory, or one row for all."""
    row = np.arange(tiny.n_items, dtype=np.float32)
    whole = np.broadcast_to(row, (tiny.n_users, tiny.n_items))
    found = evaluate(lambda rows: whole[: len(rows)], tiny, [5])
    assert found == evaluate(whole, tiny, [5]) == evaluate(whole.copy(), tiny, [5])


def test_what_scores_minus_infinity_is_not_recommended(tiny):
    """Candidates of another model, few enough that lists are not full."""
    nothing = np.full((tiny.n_users, tiny.n_items), -np.inf)
    how = {"topN": [20], "metrics": ["recall", "precision", "hit"]}
    assert set(evaluate(nothing, tiny, **how)["test"].values()) == {0}
    some = nothing.copy()
    some[:, :5] = np.arange(5)
    found = evaluate(some, tiny, **how)["test"]
    hits = [(row < 5).sum() for row in np.split(tiny.test.items.numpy(), tiny.test.offsets[1:-1])]
    assert found["precision@20"] == pytest.approx(np.mean(hits) / 20)


def test_a_model_is_evaluated_as_by_its_scorer(tiny, model):
    model.train()
    assert evaluate(model, tiny, [5]) == evaluate(model.eval().scorer(), tiny, [5])
    model.train()
    evaluate(model, tiny, [5])
    assert model.training


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scores": np.zeros((3, 4))}, r"must have shape \(.*but have \(3, 4\)"),
        ({"metrics": ["clicks"]}, "metrics must be of precision"),
        ({"metric_users": "some"}, "metric_users must be of all, with_items"),
        ({"recall_denominator": "k"}, "recall_denominator must be of"),
        ({"topN": []}, "topN must hold cut-offs"),
        ({"topN": [20.7]}, "a cut-off of topN must be an integer, got 20.7"),
        ({"topN": [True]}, "a cut-off of topN must be an integer, got True"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 100.5}, "batch_size must be an integer"),
        ({"metrics": ["recall", "recall"]}, "names of their own"),
        ({"metrics": [lambda *_: 1, lambda *_: 2]}, "names of their own"),
        ({"metrics": [lambda hits, n, items: hits]}, "must give a number for each of 120 users"),
        ({"metrics": [lambda hits, n, items: n * torch.nan]}, "or some that are none"),
        ({"scores": None}, "scores must be real numbers, but are of type object"),
        ({"scores": [[1.0], [1.0, 2.0]]}, "scores are no array"),
        ({"scores": lambda rows: None}, "scores must be real numbers, but are of type object"),
        ({"scores": lambda rows: torch.zeros(1, 1) * 1j}, "of type torch.complex64"),
        ({"scores": lambda rows: torch.zeros(len(rows), 3)}, "scores of 120 rows must have shape"),
        ({"scores": lambda rows: torch.zeros(len(rows), rows.n_items) * torch.nan}, "no numbers"),
        ({"scores": lambda rows: torch.eye(len(rows), rows.n_items) * torch.nan}, "no numbers"),
        ({"scores": lambda rows: 1 / torch.eye(len(rows), rows.n_items)}, "some are infinite"),
    ],
)
def test_wrong_arguments(tiny, wrong, words):
    arguments = {"scores": np.zeros((tiny.n_users, tiny.n_items)), **wrong}
    with pytest.raises(InputError, match=words):
        evaluate(dataset=tiny, **arguments)


def test_scores_of_some_users_are_those_of_their_rows(tiny):
    """In any order, a row of scores for each row of the data."""
    scores = np.random.default_rng(0).random((tiny.n_users, tiny.n_items))
    everyone = evaluate(scores, tiny, per_user=True)["test"]["ndcg@10"]
    for some in (torch.tensor([7, 0, 3]), torch.arange(50, 60)):
        parts = {split: getattr(tiny, split).rows(some) for split in ("train", "valid", "test")}
        found = evaluate(scores[some], dataclasses.replace(tiny, **parts), per_user=True)
        np.testing.assert_array_equal(found["test"]["ndcg@10"], everyone[some])
    twice = {split: getattr(tiny, split).rows(torch.tensor([1, 1])) for split in parts}
    with pytest.raises(InputError, match="has a user twice"):
        evaluate(scores[:2], dataclasses.replace(tiny, **twice))


def test_a_module_is_evaluated_as_it_is_used(tiny):
    """Without dropout, and is in training mode again afterwards."""

    class Dropped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout(0.9)

        def forward(self, rows):
            return self.dropout(torch.arange(1.0, rows.n_items + 1).repeat(len(rows), 1))

    module = Dropped()
    scores = np.tile(np.arange(1.0, tiny.n_items + 1), (tiny.n_users, 1))
    assert evaluate(module, tiny) == evaluate(scores, tiny)
    assert module.training


def test_what_is_masked_is_not_recommended(tiny):
    scores = np.random.default_rng(0).random((tiny.n_users, tiny.n_items))
    mask = scores < 0.5
    masked = evaluate(np.ma.masked_array(scores, mask), tiny)
    assert masked == evaluate(np.where(mask, -np.inf, scores), tiny)
    assert masked != evaluate(scores, tiny)


@pytest.mark.parametrize("who", ["all", "with_items"])
def test_metrics_of_ones_own(tiny, model, who):
    def found(hits, n_relevant, items):
        return hits.double().sum(dim=1) / n_relevant.clamp(min=1)

    def first(hits, n_relevant, items):
        return items[:, 0]

    how = {"metrics": ["recall", found, "gini", first], "metric_users": who, "topN": [5, 500]}
    report = evaluate(model, tiny, **how)
    assert list(report["test"]) == [f"{m}@{k}" for m in ("recall", "found", "gini", "first")
                                    for k in (5, 500)]  # fmt: skip
    for split in ("valid", "test"):
        for cut in (5, 500):
            assert report[split][f"found@{cut}"] == pytest.approx(report[split][f"recall@{cut}"])
    of_each = evaluate(model, tiny, per_user=True, **how)["test"]["first@5"]
    assert np.nanmean(of_each) == pytest.approx(report["test"]["first@5"])


def test_arguments_may_be_written_shortly(tiny, model):
    whole = evaluate(model, tiny, [20], metrics=["recall"])
    assert evaluate(model, tiny, 20, metrics="recall") == whole
    assert evaluate(model, tiny, np.array([20]), metrics="recall") == whole


@pytest.mark.parametrize("who", ["all", "with_items"])
def test_the_means_are_those_of_the_users(tiny, model, who):
    of_users = [metric for metric in METRICS if metric not in ("coverage", "gini")]
    how = {"topN": [3, 9], "metrics": of_users, "metric_users": who}
    means, users = evaluate(model, tiny, **how), evaluate(model, tiny, **how, per_user=True)
    for split in ("valid", "test"):
        assert list(means[split]) == list(users[split])
        for name, values in users[split].items():
            assert values.shape == (tiny.n_users,)
            if name.startswith("novelty"):
                continue  # of lists, which users without items have too
            assert np.nanmean(values) == pytest.approx(means[split][name])


# Paired tests


def test_a_comparison_is_scipys():
    random = np.random.default_rng(0)
    a, noise = random.random(200), random.normal(0.02, 0.1, 200)
    b = a - noise
    a[3] = np.nan  # a user whom only one of them averages over
    found = compare({"recall@20": a, "ndcg@20": a}, {"recall@20": b, "ndcg@20": a})
    row, both = found["recall@20"], np.arange(200) != 3
    test = scipy.stats.ttest_rel(a[both], b[both])
    assert row["difference"] == pytest.approx(noise[both].mean())
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert row["low"] < row["difference"] < row["high"]
    assert row["effect"] == pytest.approx(noise[both].mean() / noise[both].std(ddof=1))
    assert row["wilcoxon"] == pytest.approx(scipy.stats.wilcoxon(a[both], b[both]).pvalue)
    assert row["adjusted"] == pytest.approx(2 * row["p"])  # Benjamini and Hochberg, of two
    same = found["ndcg@20"]
    assert (same["difference"], same["p"], same["effect"]) == (0, 1, 0)
    lower = compare({"recall@20": b}, {"recall@20": b + 0.5})["recall@20"]
    assert lower["effect"] == -np.inf
    below = compare({"m": [0, 0, 0]}, {"m": [1, 1, 1]})["m"]
    assert (below["effect"], below["p"], below["wilcoxon"]) == (-np.inf, 0, 0.25)
    for wrong in ({"recall@20": a[:5]}, {"recall@20": 0.5}, {"valid": {"recall@20": a}}):
        with pytest.raises(InputError, match="of the same users"):
            compare({"recall@20": a}, wrong)


def test_runs_of_several_seeds_are_averaged_for_each_user():
    a, b = np.random.default_rng(0).random((2, 3, 50))
    a[:, 3] = np.nan
    of_runs = [[{"recall@20": run} for run in runs] for runs in (a, b)]
    means = [{"recall@20": runs.mean(axis=0)} for runs in (a, b)]
    assert compare(*of_runs) == compare(*means) == compare(of_runs[0], means[1])
    # Sums in another order differ in their last digits, and are equal all the same.
    few = np.random.default_rng(0).choice([0.1, 0.2, 0.7], (3, 50))
    other = np.where(np.arange(50) < 40, few[[1, 2, 0]], few[[2, 2, 0]])
    sums = [{"m": (runs[0] + runs[1] + runs[2]) / 3} for runs in (few, other)]
    exact = scipy.stats.wilcoxon(np.round(sums[0]["m"] * 30) - np.round(sums[1]["m"] * 30))
    assert compare(*sums)["m"]["wilcoxon"] == pytest.approx(exact.pvalue)
    for other in ([], [{"ndcg@20": a[0]}], [{"recall@20": a[0][1:]}]):
        wrong = [*of_runs[0], *other] if other else []
        with pytest.raises(InputError, match="compare takes each user's metrics"):
            compare(wrong, means[1])
