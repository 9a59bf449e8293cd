"""The parts of a training run by themselves: objectives, schedule, chance, augmentation, optimiser state, settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import rheobase as rb
from rheobase import training
from rheobase.training import chance, optimiser
from rheobase.training.augment import Augmentation
from rheobase.training.ema import Average
from rheobase.training.objective import each_step
from rheobase.training.randaugment import OPERATIONS

AUGMENTATIONS: tuple[Augmentation, ...] = (
    training.Mirror(),
    training.Crop(padding=2),
    training.Jitter(degrees=20.0, scale=0.1, shift=2.0),
    training.Cutout(size=3),
    training.RandAugment(count=2, magnitude=9.0),
)


def images(samples: int, channels: int = 3, size: int = 9) -> torch.Tensor:
    return torch.rand(samples, channels, size, size, generator=torch.Generator().manual_seed(1))


@given(st.integers(1, 5), st.integers(0, 1000))
def test_the_steps_come_back_from_their_prefix_means(steps, seed):
    outputs = torch.rand(steps, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    means = outputs.cumsum(0) / torch.arange(1, steps + 1).reshape(-1, 1, 1)
    assert torch.allclose(each_step(means), outputs)


def test_cross_entropy_is_of_the_last_answer_and_tet_of_every_step():
    outputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    means = outputs.cumsum(0) / torch.arange(1, 4).reshape(-1, 1, 1)
    target = F.one_hot(torch.tensor([0, 1, 2, 3, 0]), 4).float()
    last = F.cross_entropy(outputs.mean(0), target.argmax(1), label_smoothing=0.1)
    assert torch.allclose(training.CrossEntropy(smoothing=0.1)(means, target), last)
    every = torch.stack([F.cross_entropy(o, target.argmax(1)) for o in outputs]).mean()
    pull = (outputs - 2.0).square().mean()
    found = training.TET(weight=0.25, level=2.0)(means, target)
    assert torch.allclose(found, 0.75 * every + 0.25 * pull)
    assert not torch.allclose(found, every)


@given(st.floats(0, 5), st.floats(0, 1))
def test_cosine_rises_then_falls_between_its_ends(warmup, least):
    cosine = training.Cosine(warmup=warmup, least=least)
    shares = [cosine(i / 10, 10.0) for i in range(101)]
    assert max(shares) <= 1 + 1e-12
    assert cosine(10.0, 10.0) == pytest.approx(least)
    turn = sum(i / 10 < warmup for i in range(101))
    assert shares[:turn] == sorted(shares[:turn])
    assert shares[turn:] == sorted(shares[turn:], reverse=True)


def test_the_order_of_the_data_is_a_function_of_seed_and_epoch():
    assert sorted(chance.order(50, 3, 7).tolist()) == list(range(50))
    assert torch.equal(chance.order(50, 3, 7), chance.order(50, 3, 7))
    different = {tuple(chance.order(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(different) == 9


@pytest.mark.parametrize("augment", AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_an_augmentation_is_a_function_of_each_image_and_its_numbers(augment):
    """So a batch split among processes is augmented as a whole one is, and no image sees another."""
    x, u = images(8), chance.uniform(8, augment.draws, 0, 0, 0)
    whole = augment(x, u)
    assert whole.shape == x.shape
    assert not torch.equal(whole, x)
    parts = torch.cat([augment(x[:2], u[:2]), augment(x[2:], u[2:])])
    assert torch.allclose(whole, parts, atol=1e-6)
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1 + 1e-6


def test_a_crop_shifts_by_whole_pixels_and_brings_zeros():
    x = images(1)
    shifted = training.Crop(padding=2)(x, torch.tensor([[0.0, 0.99]]))  # from two rows above, two columns to the right
    assert torch.equal(shifted[:, :, 2:, :-2], x[:, :, :-2, 2:])
    assert shifted[:, :, :2].abs().sum() == 0
    assert torch.equal(training.Crop(padding=2)(x, torch.tensor([[0.5, 0.5]])), x)


def test_no_turn_no_scale_and_no_shift_leave_the_image():
    x = images(4)
    assert torch.allclose(training.Jitter()(x, torch.rand(4, 4)), x, atol=1e-6)
    moved = training.Jitter(shift=2.0)(x, torch.tensor([[0.5, 0.5, 1.0, 0.5]]).expand(4, 4))
    assert torch.allclose(moved[:, :, :, :-2], x[:, :, :, 2:], atol=1e-5)


@given(st.integers(0, 10_000), st.floats(0.1, 1))
def test_cutmix_mixes_neighbours_and_the_target_by_the_area_it_pastes(seed, probability):
    x = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 8, 8)
    target = F.one_hot(torch.arange(6), 6).float()
    u = torch.rand(6, 4, generator=torch.Generator().manual_seed(seed))
    mixed, probabilities = training.CutMix(probability=probability)(x, target, u)
    for i in range(6):
        share = (mixed[i, 0] == i ^ 1).float().mean()
        assert probabilities[i, i ^ 1] == pytest.approx(float(share), abs=1e-6)
        assert set(mixed[i].unique().tolist()) <= {float(i), float(i ^ 1)}
        assert bool(share == 0) or bool(u[i, 0] < probability)
    assert torch.allclose(probabilities.sum(1), torch.ones(6))
    with pytest.raises(rb.SpecError, match="pairs"):
        training.CutMix()(x[:5], target[:5], u[:5])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_every_operation_of_randaugment_keeps_the_range_and_does_something(operation):
    x = images(6) ** 2
    for channels in (3, 1):
        found = operation(x[:, :channels], torch.full((6,), 0.9))
        assert found.shape == x[:, :channels].shape
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1 + 1e-6
    assert torch.equal(operation(x, torch.full((6,), 0.9)), x) == (operation.__name__ == "identity")


def test_equalising_makes_the_shares_even():
    x = torch.arange(64.0).reshape(1, 1, 8, 8) / 255
    found = OPERATIONS[2](x, torch.zeros(1))
    assert torch.allclose(found.flatten(), torch.arange(64.0) / 63)


@pytest.mark.parametrize("chosen", [training.AdamW(rate=0.01), training.SGD(rate=0.01)])
def test_an_optimiser_goes_on_bit_for_bit_from_its_tensors(chosen):
    def run(net: nn.Module, made: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            made.zero_grad()
            net(torch.full((2, 3), float(step))).square().sum().backward()
            made.step()

    torch.manual_seed(0)
    whole = nn.Linear(3, 2)
    stopped = nn.Linear(3, 2)
    stopped.load_state_dict(whole.state_dict())
    first, second = chosen.made(whole), chosen.made(stopped)
    run(whole, first, range(6))
    run(stopped, second, range(3))
    again = nn.Linear(3, 2)
    again.load_state_dict(stopped.state_dict())
    third = chosen.made(again)
    optimiser.restore(third, optimiser.tensors(second))
    run(again, third, range(3, 6))
    assert torch.equal(again.weight, whole.weight)
    assert torch.equal(again.bias, whole.bias)


def test_only_weights_decay():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decaying, still = optimiser.groups(net, 0.1)
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in still["params"]} == {1}
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.1, 0.0)


def test_the_average_follows_its_equation():
    net = nn.Linear(1, 1, bias=False)
    average = Average(net, 0.5)
    values = [net.weight.item()]
    for done, value in enumerate((1.0, -2.0, 4.0), 1):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update(net, done)
        decay = min(0.5, (1 + done) / (10 + done))
        values.append(decay * values[-1] + (1 - decay) * value)
        assert average.tensors["weight"].item() == pytest.approx(values[-1], rel=1e-6)


def test_settings_reach_every_depth_and_name_what_was_meant():
    from rheobase.recipes.mt_lif_mnist import recipe

    config = recipe()
    found = training.changed(
        config, ["steps=4", "optimiser.rate=1", "bf16=true", "net.layers=8C3-G", "neuron.leak.beta=1"]
    )
    assert (found.steps, found.optimiser.rate, found.bf16, found.net.layers) == (4, 1.0, True, "8C3-G")
    assert found.neuron.leak.beta == 1.0
    assert training.changed(config, []) == config
    for setting, says in (
        ("step=1", "did you mean 'steps'"),
        ("steps=1.5", "no int"),
        ("steps", "sets nothing"),
        ("epochs.rate=1", "no settings of its own"),
        ("optimiser.rat=1", "did you mean 'rate'"),
        ("steps=0", "at least one"),
    ):
        with pytest.raises(rb.SpecError, match=says):
            training.changed(config, [setting])


def test_a_recipe_round_trips_through_json():
    from rheobase.recipes import mt_lif_mnist, mt_snn_cifar10

    for config in (mt_lif_mnist.recipe(), mt_snn_cifar10.recipe(), replace(mt_lif_mnist.recipe(), steps=7)):
        assert rb.from_json(rb.to_json(config)) == config
