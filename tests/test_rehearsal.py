"""Runs before the run, neurons that wait, delayed answers: what they do to a network, and what they cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase import Neuron, Tensors, testing
from rheobase.evaluate import Curve

seeds, steps = st.integers(0, 10_000), st.integers(2, 10)
ONE = Tensors(torch.tensor(1.0), torch.tensor(0.5))


def rehearsed(rule: rb.Residual | rb.COS, xs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Letters and residual of a rehearsal on `xs`, and the letters of the run that it leads to."""
    ys, m = rb.scan(Neuron(), ONE, xs)
    start = rule.start(ONE.v0.expand(xs.shape[1:]), ONE.theta0, xs, ys)
    again, _ = rb.scan(Neuron(), ONE._replace(v0=start), xs)
    return ys, m.v, again


@given(seeds, steps)
def test_srp_silences_exactly_those_whose_residual_is_not_positive(seed, t):
    ys, left, again = rehearsed(rb.Residual(t), testing.dyadic(t, 4, 60, seed=seed))
    assert torch.equal(again == 0, (left <= 0) | (ys == 0))
    assert torch.equal(again[:, left > 0], ys[:, left > 0])


@given(seeds, steps)
def test_srp_silences_every_neuron_that_fired_though_its_source_is_silent(seed, t):
    """A source that rounds its mean input to no letter means `sum x + v0 < theta`: after a spike nothing is left."""
    xs = testing.dyadic(t, 4, 60, seed=seed)
    ys, _, again = rehearsed(rb.Residual(t), xs)
    silent = xs.sum(0) + 0.5 < 1.0
    assert not again[:, silent & (ys.sum(0) > 0)].any()
    assert ys[:, silent].any() or t < 4


@given(seeds, steps)
def test_cos_moves_a_count_by_one_where_it_was_wrong_and_nowhere_else(seed, t):
    xs = testing.dyadic(t, 4, 60, seed=seed)
    ys, left, again = rehearsed(rb.COS(t), xs)
    early, late = (left < 0) & (ys.sum(0) > 0), (left >= 1) & (ys == 0).any(0)
    change = again.sum(0) - ys.sum(0)
    assert (change[early] <= 0).all()
    assert (change[late] >= 0).all()
    assert torch.equal(again[:, ~(early | late)], ys[:, ~(early | late)])
    for wrong in (early, late):
        assert (change[wrong].abs() == 1).all()


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 5)).eval(), torch.randn(30, 1, 8, 8)


@pytest.fixture(scope="module")
def made() -> tuple[nn.Module, Tensor]:
    return network()


def converted(made: tuple[nn.Module, Tensor], **parts: Any) -> rb.SpikingNet:
    method = rb.Method(**({"scale": rb.Max(channelwise=True), "initial": rb.Half()} | parts))
    return rb.convert(made[0], method, [made[1]])[0]


def labelled(made: tuple[nn.Module, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(made[1], made[0](made[1]).argmax(1))]


@pytest.mark.parametrize("rule", [rb.Residual(4), rb.COS(4)], ids=str)
def test_a_network_rehearses_before_it_runs_and_the_curve_counts_it(made, rule, tmp_path):
    plain, net = converted(made), converted(made, rehearsal=rule)
    x = made[1]
    ys, state = net(rb.constant(x, 6))
    first, later = net(rb.constant(x, 2)), None
    second, later = net(rb.constant(x, 4), first[1])
    torch.testing.assert_close(torch.cat([first[0], second]), ys)
    assert later.t == state.t == 6
    alone = torch.cat([net(rb.constant(x[i : i + 1], 6))[0] for i in range(30)], 1)
    assert torch.isclose(alone, ys, atol=1e-5).all(2).float().mean() > 0.99  # rounding may move a spike
    curve, before = (rb.evaluate(n, labelled(made), 6) for n in (net, plain))
    rehearsal = rb.evaluate(plain, labelled(made), rule.steps)
    run = curve.spikes[1:] - curve.spikes[:-1]
    assert curve.delay == rule.steps
    assert curve.latency.tolist() == [5, 6, 7, 8, 9, 10]
    assert before.delay == 0
    own = [0.0]

    def see(seen) -> None:
        own[0] += float(seen.emission.letters[0].detach().sum()) if seen.emission is not None else 0.0

    net.run(rb.constant(x, 1), None, see)
    assert curve.spikes[0] * 30 == pytest.approx(own[0] + 30 * rehearsal.spikes[-1])
    assert (run >= 0).all()
    assert curve.macs[0] == before.macs[rule.steps]
    rb.save(tmp_path / "snn.safetensors", net)
    assert torch.equal(rb.load(tmp_path / "snn.safetensors")(rb.constant(x, 6))[0], ys)


def test_a_rehearsal_that_silences_is_no_limit_of_the_ann_and_the_certificate_says_so(made):
    found = rb.verify(converted(made, rehearsal=rb.Residual(4)), made[0], [made[1]], steps=(4, 16))
    assert any("silence" in layer.why for layer in found.layers)
    rb.verify(converted(made, rehearsal=rb.COS(4)), made[0], [made[1]], steps=(4, 16))


def test_a_network_that_waits_answers_after_its_last_step_only(made):
    t = 8
    net, x = converted(made, gate=rb.Wait()), made[1]
    assert net.waiting == 3
    curve = rb.evaluate(net, labelled(made), t, chunk=2)
    assert np.isnan(curve.accuracy[:-1]).all()
    assert curve.answers_from == t
    assert curve.latency[-1] == (3 + 1) * t
    again = Curve.from_json(json.loads(json.dumps(curve.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.accuracy, curve.accuracy)
    assert again.delay == curve.delay
    with pytest.raises(rb.InputError, match="no answer before its last step"):
        rb.predict(net, x)
    with pytest.raises(rb.InputError, match="no answer before its last step"):
        rb.calibrate_exit(net, [x])
    _, state = net(rb.constant(x, 4))
    with pytest.raises(rb.InputError, match="waits cannot go on"):
        net(rb.constant(x, 4), state)


def test_a_network_that_waits_is_the_quantised_ann(made):
    """Every layer of it rounds its own mean input, so the answer is that of the network with rounded activations."""
    net, x, t = converted(made, gate=rb.Wait()), made[1], 8
    ys, _ = net(rb.constant(x, t))
    with torch.no_grad():
        a = x
        sites = iter(net.sites())
        for layer in made[0]:
            if not isinstance(layer, nn.ReLU):
                a = layer(a)
                continue
            name, neuron = next(sites)
            theta = neuron.threshold.rest(net.tensors(name).theta0)
            a = theta / t * torch.floor(a * t / theta + 0.5).clamp(0, t)
    close = torch.isclose(ys[-1], a, atol=1e-4).all(1).float().mean()
    assert close > 0.9  # a value at the edge of a level may round the other way
    open_gate = converted(made)(rb.constant(x, t))[0][-1]
    assert torch.isclose(open_gate, a, atol=1e-4).all(1).float().mean() < close


def test_waiting_networks_are_verified_and_corrected(made):
    net = converted(made, gate=rb.Wait(), correction=rb.ChannelBias(4))
    rb.verify(net, made[0], [made[1]], steps=(4, 16))
    rb.diagnose(net, made[0], [made[1]], 4)


@given(st.integers(1, 8), st.integers(1, 12), seeds)
def test_a_delayed_answer_is_the_mean_from_its_first_step(d, t, seed):
    outputs = testing.dyadic(t, 3, 4, seed=seed)
    count = torch.arange(1, t + 1).reshape(-1, 1, 1)
    got = rb.Delayed(d).read(outputs.double().cumsum(0) / count)
    for step in range(1, t + 1):
        expected = outputs[d - 1 : step].double().mean(0) if step >= d else torch.full((3, 4), torch.nan).double()
        torch.testing.assert_close(got[step - 1], expected, equal_nan=True)


def test_a_delayed_curve_has_no_answers_before_its_first_step(made):
    net = converted(made)
    plain, delayed = rb.evaluate(net, labelled(made), 8), rb.evaluate(net, labelled(made), 8, readout=rb.Delayed(3))
    assert np.isnan(delayed.accuracy[:2]).all()
    assert not np.isnan(delayed.accuracy[2:]).any()
    np.testing.assert_array_equal(delayed.spikes, plain.spikes)
    outputs = net(rb.constant(made[1], 8))[0] * torch.arange(1, 9).reshape(-1, 1, 1)
    outputs = outputs.diff(dim=0, prepend=torch.zeros_like(outputs[:1]))
    right = (outputs[2:].mean(0).argmax(1) == labelled(made)[0][1]).float().mean()
    assert delayed.accuracy[-1] == pytest.approx(float(right))
    with pytest.raises(rb.SpecError):
        rb.Delayed(0)


SIGNED = {"alphabet": rb.signed(3), "gate": rb.SentCharge()}


def test_a_differential_network_reaches_its_ann_with_fewer_events(made):
    rate, change = converted(made, **SIGNED), converted(made, **SIGNED, link=rb.Differential())
    x, t = made[1], 64
    curves = [rb.evaluate(net, labelled(made), t) for net in (rate, change)]
    answer = made[0](x).detach()
    errors = [float((net(rb.constant(x, t))[0][-1].detach() - answer).abs().mean()) for net in (rate, change)]
    assert errors[1] < 0.05 * float(answer.abs().mean())
    assert curves[1].events[-1] < 0.5 * curves[0].events[-1]
    assert curves[1].acs[-1] < 0.5 * curves[0].acs[-1]
    assert curves[1].macs[-1] == curves[0].macs[0]  # the constant input is one message
    assert torch.equal(change(rb.constant(x, 1))[0], rate(rb.constant(x, 1))[0])
    plain = rb.evaluate(change, labelled(made), t, chunk=1)
    np.testing.assert_allclose(plain.acs, rb.evaluate(change, labelled(made), t, chunk=t).acs, rtol=1e-5)


def test_a_differential_network_is_certified_corrected_saved_and_run_in_pieces(made, tmp_path):
    net = converted(made, **SIGNED, link=rb.Differential(), correction=rb.StepBias(4))
    x = made[1]
    ys, _ = net(rb.constant(x, 6))
    head, state = net(rb.constant(x, 2))
    torch.testing.assert_close(torch.cat([head, net(rb.constant(x, 4), state)[0]]), ys)
    rb.save(tmp_path / "snn.safetensors", net)
    assert torch.equal(rb.load(tmp_path / "snn.safetensors")(rb.constant(x, 6))[0], ys)
    found = rb.verify(converted(made, **SIGNED, link=rb.Differential()), made[0], [x], steps=(16, 64, 256))
    assert found.holds, str(found)
    rb.diagnose(net, made[0], [x], 4)


@pytest.mark.parametrize(
    "parts",
    [
        {"gate": rb.Wait(), "threshold": rb.MSAT()},
        {"gate": rb.Wait(), "correction": rb.StepBias(4)},
        {"link": rb.Differential()},
        {**SIGNED, "link": rb.Differential(), "threshold": rb.DTIF()},
        {**SIGNED, "rehearsal": rb.Residual(4)},
        {"alphabet": rb.burst(3), "rehearsal": rb.COS(4)},
        {"gate": rb.Wait(), "rehearsal": rb.COS(4)},
    ],
    ids=lambda parts: "+".join(parts),
)
def test_combinations_that_make_no_sense_are_refused(parts):
    with pytest.raises(rb.SpecError, match="makes no sense"):
        rb.Method(**parts)
    for nonsense in (rb.Residual, rb.COS):
        with pytest.raises(rb.SpecError):
            nonsense(0)


def test_a_method_with_the_new_parts_survives_json():
    for name in ("srp", "cos", "wait", "mth", "dcgs", "ltb", "snnc", "ftbc"):
        method = rb.methods.named(name)
        assert rb.from_json(rb.to_json(method)) == method
    assert replace(rb.methods.dcgs(), link=rb.Rate()) == rb.methods.mth()
