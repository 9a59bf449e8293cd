"""Thresholds and starts that are fitted together on converted inputs, and learned from the network's own answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase import testing
from rheobase.convert import choose_methods, source_graph
from rheobase.distil import distil, divergence, settle
from rheobase.pairs import Pairs
from rheobase.staircase import neurons, staircases, stairs
from trained import digits

seeds = st.integers(0, 10_000)


def samples(seed: int, n: int = 4000) -> tuple[Tensor, Tensor]:
    """Drives of three channels, and answers that they tell with noise; the second channel answers often."""
    generator = torch.Generator().manual_seed(seed)
    u, noise = torch.randn(2, 3, n, generator=generator)
    u = u * torch.tensor([[1.0], [2.0], [0.3]]) + torch.tensor([[-0.5], [1.0], [0.1]])
    return u, (u + 0.4 * noise).clamp(min=0)


def counted(u: Tensor, a: Tensor) -> Pairs:
    pairs = Pairs(u.amin(1), u.amax(1), float(a.max()))
    pairs.add(u, a)
    return pairs


def staircase(u: Tensor, unit: Tensor, start: Tensor, levels: int) -> Tensor:
    return (u / unit[:, None] + start[:, None]).floor().clamp(0, levels) * unit[:, None]


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)).double().eval()


def images(n: int = 256, seed: int = 1) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def off(answer: Tensor, target: Tensor) -> float:
    return float(divergence(answer, target).detach())


@given(seeds, st.integers(1, 4))
@settings(max_examples=15)
def test_no_order_and_no_split_over_processes_changes_a_bit(seed, levels):
    u, a = samples(seed, 600)
    whole, order = counted(u, a), torch.randperm(600, generator=torch.Generator().manual_seed(seed))
    parts = [Pairs(u.amin(1), u.amax(1), float(a.max())) for _ in range(3)]
    for part, chosen in zip(parts, order.tensor_split(3), strict=True):
        part.add(u[:, chosen], a[:, chosen])
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    for ours, theirs in zip(whole.fitted(levels), parts[2].fitted(levels), strict=True):
        assert torch.equal(ours, theirs)


@given(seeds, st.sampled_from([1, 2, 5]))
@settings(max_examples=10)
def test_the_staircase_has_the_mean_and_no_other_agrees_better(seed, levels):
    u, a = (t.double() for t in samples(seed))
    unit, start = counted(u, a).fitted(levels)
    sent = staircase(u, unit, start, levels)
    assert torch.allclose(sent.mean(1), a.mean(1), rtol=0.02)
    matched = counted(u, a).matched(unit, levels)
    assert torch.allclose(matched, start)
    for factor in (0.5, 0.7, 1.4, 2.0):
        other = counted(u, a).matched(unit * factor, levels)
        rival = staircase(u, unit * factor, other, levels)
        for ours, theirs, answer in zip(sent, rival, a, strict=True):
            if abs(float(theirs.mean() / answer.mean()) - 1) < 0.01:
                assert torch.corrcoef(torch.stack([ours, answer]))[0, 1] > (
                    torch.corrcoef(torch.stack([theirs, answer]))[0, 1] - 5e-3
                )


def test_a_channel_that_says_nothing_takes_the_largest_unit_and_a_full_one_is_no_answer():
    u, a = samples(3)
    a[0] = 0
    unit, start = counted(u, a).fitted(1)
    assert unit[0] == unit.max()
    assert start[0] == 0.5
    assert 0 < float((staircase(u.double(), unit, start, 1)[1] == 0).float().mean()) < 1


@given(st.integers(1, 6), st.integers(1, 5), seeds)
def test_staircase_and_neuron_are_two_ways_to_say_the_same(steps, letters, seed):
    method = rb.methods.fitted(steps, letters)
    parts = {key: testing.dyadic(5, seed=seed + i, low=0.25, high=2.0) for i, key in enumerate(("theta0", "v0"))}
    back = neurons(method, stairs(method, parts))
    assert all(torch.allclose(back[key], parts[key]) for key in parts)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("make", [rb.methods.fitted, rb.methods.distilled])
def test_neurons_that_wait_are_the_staircases(steps, make):
    ann, x, method = net(), images(), make(steps, 1)
    snn, _ = rb.convert(ann, method, [x])
    source = source_graph(ann, x[:8])
    chosen = choose_methods(source, method)
    fitted = {name: dict(snn.weights(name)) for name in chosen}
    expected = staircases(source, chosen, fitted)(x)
    *_, ys = snn.present(x, steps)
    near = (ys[-1] - expected).abs().amax(1) < 1e-9
    assert near.double().mean() > 0.99  # a drive on the edge of a step may fall on either side


def test_fitted_together_is_nearer_to_the_network_than_one_after_the_other():
    ann, x, _ = digits()
    error = {}
    for name, method in (("apart", rb.methods.best(1, 1)), ("together", rb.methods.fitted(1, 1))):
        *_, ys = rb.convert(ann, method, [x[:200]])[0].present(x[200:], 1)
        error[name] = off(ys[-1], ann(x[200:]))
    assert error["together"] < error["apart"]


@pytest.mark.parametrize("letters", [1, 3])
def test_distillation_comes_nearer_and_touches_no_weight(letters):
    ann, x, held = net(4), images(512), images(512, seed=7)
    before = {key: t.clone() for key, t in ann.state_dict().items()}
    error = {}
    for method in (rb.methods.fitted(2, letters), rb.methods.distilled(2, letters, passes=60)):
        snn, _ = rb.convert(ann, method, list(x.split(100)))
        *_, ys = snn.present(held, 2)
        error[method.tuning.passes] = off(ys[-1], ann(held))
        assert torch.allclose(snn.weights("0")["bias"], before["0.bias"])
    assert error[60] < error[0]
    assert all(torch.equal(t, before[key]) for key, t in ann.state_dict().items())
    assert all(p.grad is None for p in ann.parameters())


def test_weights_are_tuned_only_where_the_method_says_so_and_then_the_report_says_it():
    ann, x, held = net(4), images(512), images(512, seed=7)
    before = {key: t.clone() for key, t in ann.state_dict().items()}
    error = {}
    for method in (rb.methods.distilled(1, 1, passes=60), rb.methods.distilled(1, 1, passes=60, weights=3e-3)):
        snn, report = rb.convert(ann, method, list(x.split(100)))
        *_, ys = snn.present(held, 1)
        error[method.tuning.weights] = off(ys[-1], ann(held))
        assert report.tuned == (("0", "2", "4") if method.tuning.weights else ())
        assert ("weights tuned: 0, 2, 4" in str(report)) == bool(method.tuning.weights)
        assert torch.allclose(snn.weights("0")["bias"], before["0.bias"]) == (not method.tuning.weights)
    assert error[3e-3] < 0.8 * error[0.0]
    assert all(torch.equal(t, before[key]) for key, t in ann.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in ann.parameters())


def test_what_was_tuned_is_not_certified_as_the_network_it_came_from():
    ann, x = net(4), images(64)
    for weights in (0.0, 1e-2):
        snn, _ = rb.convert(ann, rb.methods.distilled(1, 1, passes=5, weights=weights), [x])
        assert rb.verify(snn, ann, [x]).holds == (not weights)


def test_a_channel_that_no_drive_reaches_stays_and_spoils_nothing():
    """Its drives are below zero where it stands, so its unit is all but 0, and gradients over it overflow."""
    ann, x = net().float(), images(64).float()
    method = rb.methods.distilled(2, 3, passes=2)
    source = source_graph(ann, x[:1])
    chosen = choose_methods(source, method)
    fitted = {n: {"theta0": torch.ones(24, 1)[:, 0], "v0": torch.full((24,), 0.1)} for n in chosen}
    fitted["1"]["theta0"][3] = 1e-30
    before = {name: t["theta0"].clone() for name, t in fitted.items()}
    distil(source, chosen, fitted, x, torch.Generator().manual_seed(0))
    for name, parts in fitted.items():
        assert all(bool(t.isfinite().all()) for t in parts.values())
        assert int((parts["theta0"] != before[name]).sum()) > 12
    assert float(fitted["1"]["theta0"][3]) == pytest.approx(1e-30, rel=1e-3)


def test_the_same_seed_learns_the_same_bits_whatever_grad_mode_is_on():
    ann, x = net(), images(64)
    method = rb.methods.distilled(2, 3, passes=2)
    first, _ = rb.convert(ann, method, [x])
    with torch.no_grad():
        second, _ = rb.convert(ann, method, list(x.split(16)))
    for name, _ in first.sites():
        assert all(torch.equal(t, second.weights(name)[key]) for key, t in first.weights(name).items())
    with torch.inference_mode(), pytest.raises(rb.ConversionError, match="no_grad"):
        rb.convert(ann, method, [x.clone()])


def test_bounded_and_two_sided_activations():
    torch.manual_seed(0)
    bounded = nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 3)).eval()
    x = 5 * torch.randn(64, 6)
    snn, _ = rb.convert(bounded, rb.methods.distilled(1, 3, passes=3), [x])
    assert float(snn.weights("1")["theta0"].max()) <= 2 * (1 + 1e-6)
    smooth = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    for make in (rb.methods.fitted, rb.methods.distilled):
        snn, _ = rb.convert(smooth, make(2, 3), [x], on_unsupported="approximate")
        *_, ys = snn.present(x, 2)
        assert torch.corrcoef(torch.stack([ys[-1].flatten(), smooth(x).flatten()]))[0, 1] > 0.9


def test_samples_are_mixed_only_where_they_are_real_numbers():
    torch.manual_seed(0)
    words = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    tokens = torch.randint(0, 9, (40, 3))
    snn, _ = rb.convert(words, rb.methods.distilled(2, 3, passes=2), [tokens])
    assert snn(rb.constant(tokens, 2))[0].shape == (2, 40, 2)


def test_each_layer_may_have_a_method_of_its_own():
    ann, x = net(), images(64)
    method = {"1": rb.methods.opi(rb.Percentile(99.9)), "": rb.methods.distilled(4, 1, passes=2)}
    source = source_graph(ann, x)
    chosen = choose_methods(source, method)
    snn, _ = rb.convert(ann, method, [x])
    plain, _ = rb.convert(ann, rb.methods.opi(rb.Percentile(99.9)), [x])
    assert torch.equal(snn.weights("1")["theta0"], plain.weights("1")["theta0"])
    assert not torch.equal(snn.weights("3")["theta0"], plain.weights("3")["theta0"])
    plain = {n: rb.methods.opi() for n in chosen}
    for found in settle(source, plain, {}, [x], torch.Generator(), lambda _: print):
        assert found is source


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda: rb.Method(initial=rb.Matched()),
        lambda: rb.Method(scale=rb.Fitted(4), initial=rb.Matched(), threshold=rb.MSAT()),
        lambda: replace(rb.methods.best(), tuning=rb.Distilled()),
        lambda: rb.Fitted(0),
        lambda: rb.Distilled(0),
        lambda: rb.Distilled(mix=2.0),
        lambda: rb.Distilled(rate=0.0),
        lambda: rb.Distilled(weights=-1.0),
    ],
)
def test_what_makes_no_sense_is_refused(nonsense):
    with pytest.raises(rb.SpecError):
        nonsense()
