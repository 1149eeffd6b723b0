"""Matching and scores with worked answers."""

from __future__ import annotations

import numpy as np
import pytest

from gnomon.evaluation import recall

ALL = np.ones(2, bool)


def test_the_best_score_chooses_first_and_takes_the_nearest():
    errors = np.array([[0.2, 0.3], [0.1, 0.9]])
    assert recall.match(errors, 1.0, ALL).tolist() == [0, 1]
    assert recall.match(errors, 0.5, ALL).tolist() == [0, -1]
    assert recall.match(errors, 0.5, np.array([False, True])).tolist() == [-1, 0]


def test_an_error_at_the_threshold_is_too_large():
    assert recall.match(np.array([[0.1]]), 0.1, ALL[:1]).tolist() == [-1]
    assert recall.match(np.array([[0.0999]]), 0.1, ALL[:1]).tolist() == [0]


def test_recall_pools_targets_of_all_groups_and_counts_misses():
    groups = [
        (np.array([[0.02]]), ALL[:1]),
        (np.array([[0.2, 0.3]]), ALL),
        (np.empty((0, 1)), ALL[:1]),
    ]
    assert recall.recall(groups, 0.1) == 1 / 4
    assert recall.recall(groups, 0.25) == 2 / 4
    # 0.02 is below all ten thresholds, 0.2 below six of them (0.25 to 0.5), the misses below none.
    assert recall.average_recall(groups, recall.FRACTIONS) == pytest.approx((10 + 6) / (4 * 10))
    assert np.isnan(recall.recall([], 0.1))


def test_thresholds_are_those_of_bop():
    assert pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]) == recall.FRACTIONS
    assert recall.PIXELS == (5, 10, 15, 20, 25, 30, 35, 40, 45, 50)


def test_found_errors_without_threshold():
    errors = np.array([[0.2, 0.3], [0.1, 0.9]])
    assert recall.found_errors(errors, ALL).tolist() == [0.2, 0.9]
    assert recall.found_errors(errors[:1], ALL).tolist() == [0.2, np.inf]
    assert recall.found_errors(np.array([[np.inf]]), ALL[:1]).tolist() == [np.inf]


def test_area_under_curve_is_exact_and_near_what_others_compute():
    assert recall.area_under_curve(np.array([0.0, np.inf])) == 0.5
    assert recall.area_under_curve(np.array([0.05])) == pytest.approx(0.5)
    assert recall.area_under_curve(np.array([0.2])) == 0
    assert np.isnan(recall.area_under_curve(np.array([])))
    errors = np.abs(np.random.default_rng(0).normal(size=400)) * 0.06
    found = recall.area_under_curve(errors)
    steps = np.linspace(0, 0.1, 101)
    trapezoid = np.trapezoid([(errors <= step).mean() for step in steps], steps) / 0.1
    assert found == pytest.approx(trapezoid, abs=0.005)
    inside = np.sort(errors[errors <= 0.1])
    accuracy = np.arange(1, len(inside) + 1) / len(errors)
    edges, heights = np.concatenate([[0], inside, [0.1]]), np.concatenate([accuracy, accuracy[-1:]])
    vocap = (np.diff(edges) * heights).sum() / 0.1
    assert found <= vocap <= found + 1 / len(errors)
