"""Anytime inference: who is sure leaves, and nobody's answer changes by that."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.predict import upper_bound


class Small(nn.Module):
    """With what remembers: neurons, max pooling, a function on the mean so far."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.mix = nn.Conv2d(1, 6, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(54, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.silu(self.mix(self.pool(torch.relu(self.conv(x)))))
        return 30 * self.head(x.flatten(1))


METHODS = {
    "opi": rb.methods.opi(),
    "msat": rb.methods.msat(),
    "signed": rb.methods.snm(),
    "corrected": rb.methods.best(4, 3),
}


def converted(name: str) -> tuple[rb.SpikingNet, Tensor]:
    torch.manual_seed(3)
    x = torch.randn(40, 1, 6, 6)
    return rb.convert(Small().eval(), METHODS[name], [x], on_unsupported="approximate")[0], x


@pytest.mark.parametrize("name", METHODS)
def test_an_early_answer_is_the_answer_at_that_step(name):
    snn, x = converted(name)
    exit = rb.EarlyExit(0.8, first=2)
    found = rb.predict(snn, x, 12, exit)
    with torch.inference_mode():
        ys = torch.cat(list(snn.present(x, 12, chunk=1)))
    sure = ys.softmax(-1).amax(-1) >= 0.8
    sure[0], sure[-1] = False, True
    expected = sure.int().argmax(0) + 1
    assert found.steps.tolist() == expected.tolist()
    assert 1 < found.mean_steps < 12
    assert len(set(found.steps.tolist())) > 2
    for k, t in enumerate(expected.tolist()):
        torch.testing.assert_close(found.ys[k], ys[t - 1, k])
    assert found.labels.shape == (40,)


def test_without_exit_all_wait():
    snn, x = converted("opi")
    found = rb.predict(snn, x, 5)
    assert found.steps.tolist() == [5] * 40
    with torch.inference_mode():
        torch.testing.assert_close(found.ys, snn(rb.constant(x, 5))[0][-1])
    assert rb.predict(snn, x, 5, rb.EarlyExit(0.3, first=3)).steps.min() == 3


def test_who_has_left_costs_nothing(monkeypatch):
    snn, x = converted("opi")
    sizes = []
    run = rb.SpikingNet.run

    def seen(self, xs, state=None, visit=None):
        sizes.append(xs.shape[1])
        return run(self, xs, state, visit)

    monkeypatch.setattr(rb.SpikingNet, "run", seen)
    found = rb.predict(snn, x, 12, rb.EarlyExit(0.7))
    assert sum(sizes) == int(found.steps.sum())


def test_the_promise_of_a_calibrated_exit_holds_where_it_was_calibrated_and_elsewhere():
    snn, _ = converted("opi")
    torch.manual_seed(9)
    held, fresh = torch.randn(600, 1, 6, 6), torch.randn(600, 1, 6, 6)
    exit = rb.calibrate_exit(snn, [(held[:300], None), (held[300:], None)], 16, risk=0.05)
    for data, most in ((held, 0.05), (fresh, 0.08)):
        last, early = rb.predict(snn, data, 16), rb.predict(snn, data, 16, exit)
        assert float((last.labels != early.labels).float().mean()) <= most
        assert early.mean_steps < 14
    strict = rb.calibrate_exit(snn, [held], 16, risk=0.01)
    assert strict.confidence > exit.confidence
    with pytest.raises(rb.InputError, match="at least 2995 samples"):
        rb.calibrate_exit(snn, [held], 16, risk=0.001)


def test_answers_that_are_sure_and_change_are_told_from_too_few_samples():
    torch.manual_seed(0)
    last = nn.Linear(16, 3)
    with torch.no_grad():
        last.weight.mul_(1e4)
    ann = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), last).eval()
    x = torch.rand(400, 4)
    snn, _ = rb.convert(ann, rb.methods.opi(), [x])
    with pytest.raises(rb.InputError, match=r"no confidence keeps a risk of 0\.05 from step 1 on"):
        rb.calibrate_exit(snn, [x], 8, risk=0.05)
    assert rb.calibrate_exit(snn, [x], 8, risk=0.05, first=8).first == 8


def test_the_bound_is_the_one_of_clopper_and_pearson():
    for wrong, samples in ((0, 50), (3, 80), (40, 100)):
        p = upper_bound(wrong, samples)
        tail = sum(math.comb(samples, k) * p**k * (1 - p) ** (samples - k) for k in range(wrong + 1))
        assert tail == pytest.approx(0.05, rel=1e-6)
    assert upper_bound(7, 7) == 1


def test_bad_input():
    snn, x = converted("opi")
    with pytest.raises(rb.SpecError, match="EarlyExit"):
        rb.EarlyExit(1.5)
    with pytest.raises(rb.SpecError, match="max_steps=0"):
        rb.predict(snn, x, 0)
    with pytest.raises(rb.InputError, match="NaN"):
        rb.predict(snn, x * math.nan)
