"""Curves of several sets of samples as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.evaluate import joined


def shards(sizes):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, y = torch.rand(sum(sizes), 4), torch.arange(sum(sizes)) % 3
    snn, _ = rb.convert(ann, rb.methods.opi(), [x])
    pieces = list(zip(x.split(sizes), y.split(sizes), strict=True))
    return [rb.evaluate(snn, [piece], 4, ann=ann) for piece in pieces], rb.evaluate(snn, [(x, y)], 4, ann=ann)


@pytest.mark.parametrize("sizes", [[12], [5, 7], [1, 2, 9]])
def test_shards_joined_are_one_run(sizes):
    found, whole = shards(sizes)
    one = joined(found)
    assert one.samples == whole.samples == 12
    for name in ("accuracy", "spikes", "events", "rate", "acs", "macs", "energy_pj", "energy_once_pj", "ann_accuracy"):
        assert np.allclose(getattr(one, name), getattr(whole, name), rtol=1e-12), name
    assert one.layer_rates == pytest.approx(whole.layer_rates)


def test_shards_count_by_their_samples():
    found, whole = shards([1, 11])
    accuracies = [curve.accuracy[-1] for curve in found]
    assert accuracies[0] != accuracies[1]
    assert joined(found).accuracy[-1] == pytest.approx((accuracies[0] + 11 * accuracies[1]) / 12)
    assert joined(found).accuracy[-1] == pytest.approx(whole.accuracy[-1])


def test_what_cannot_be_joined_is_refused():
    found, _ = shards([5, 7])
    short = rb.evaluate(rb.convert(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), rb.methods.opi(),
                                   [torch.rand(8, 4)])[0], [(torch.rand(2, 4), torch.zeros(2).long())], 2)  # fmt: skip
    for curves in ([], [found[0], short]):
        with pytest.raises(rb.SpecError, match="join"):
            joined(curves)
