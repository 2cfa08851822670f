"""Metrics against fractions worked out by hand and against the slow form."""

import math
from fractions import Fraction

import numpy as np
import plain
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from DiffRec import DiffRec, Interactions, load_dataset
from DiffRec.evaluate_utils import (
    METRICS,
    evaluate,
    hits_of_top_k,
    mask_seen,
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


def test_top_k_equals_torchs():
    scores = torch.randn(30, 50).masked_fill(torch.rand(30, 50) < 0.3, -torch.inf)
    for k in (1, 7, 50):
        expected = scores.topk(k, dim=1).values
        assert torch.equal(scores.gather(1, top_k(scores, k)), expected)


def test_top_k_and_masks():
    scores = torch.tensor([[5.0, 4, 3, 2], [1, 2, 3, 4]])
    seen = Interactions.from_pairs(np.array([(0, 0), (1, 3)]), 2, 4)
    relevant = Interactions.from_pairs(np.array([(0, 2), (1, 0)]), 2, 4)
    hits = hits_of_top_k(mask_seen(scores, seen), relevant, 3)
    assert hits.tolist() == [[False, True, False], [False, False, True]]


@pytest.fixture
def model(tiny, settings):
    return DiffRec(tiny.n_items, settings("--dims", "[20]", "--steps", "4")).eval()


def test_evaluation_equals_the_slow_form(tiny, model):
    topN = [1, 5, 200]
    fast = evaluate(model.scorer(), tiny, topN, batch_size=50)
    slow = plain.evaluate(model, plain.dense_matrix(tiny.train), tiny, topN)
    for split in ("valid", "test"):
        for metric, row in zip(METRICS, slow[split], strict=True):
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
