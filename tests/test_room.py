"""Memory that is used again."""

from __future__ import annotations

import copy
import threading

import torch
from torch import nn

import rheobase as rb
from rheobase.kernels.room import Room


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    room = Room(small=0)
    a = room.empty((4, 8))
    assert (a.shape, a.dtype, a.is_contiguous()) == ((4, 8), torch.float32, True)
    place, view = a.data_ptr(), a.view(-1)[3:]
    del a
    assert room.idle == 0
    assert room.empty((4, 8)).data_ptr() != place
    del view
    b = room.empty((8, 8), torch.int16)  # as many bytes
    assert b.data_ptr() == place


def test_the_smallest_piece_that_is_large_enough_is_lent() -> None:
    room = Room(small=0)
    held = [room.empty((count,)) for count in (100, 150, 1000)]
    places = [piece.data_ptr() for piece in held]
    del held
    for count, place in ((90, places[0]), (101, places[1]), (40, None), (900, places[2])):
        piece = room.empty((count,))
        assert (piece.data_ptr() == place) if place else (piece.data_ptr() not in places)


def test_no_more_is_held_than_twice_what_was_lent_at_once() -> None:
    room = Room(small=0)
    for size in range(1, 40):
        piece = room.empty((3 * size**2,))  # none fits into another
        assert room.idle + piece.nbytes <= 2 * piece.nbytes
        del piece
    nothing = room.empty((0, 7))
    assert nothing.shape == (0, 7)


def test_strides_are_those_asked_for_and_small_tensors_are_ordinary() -> None:
    room = Room()
    for shape in ((2, 3, 4), (64, 32, 32)):
        like = torch.empty(shape).movedim(0, -1)
        lent = room.strided(tuple(like.shape), like.stride())
        assert (lent.shape, lent.stride(), lent.dtype) == (like.shape, like.stride(), torch.float32)
        del lent
        assert room.idle == (0 if like.numel() < 100 else like.nbytes)
    room.clear()
    assert room.idle == 0


def test_memory_that_comes_back_in_the_middle_of_a_loan_is_not_lent_twice() -> None:
    room = Room(small=0)

    def borrow() -> None:
        for _ in range(300):
            a = room.empty((64,)).fill_(float(threading.get_ident() % 997))
            b = room.empty((64,)).fill_(-1.0)
            held.append(bool((a != -1).all()))
            del a, b

    held: list[bool] = []
    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1200
    assert all(held)


def test_spikes_that_are_kept_are_not_written_again() -> None:
    layer, xs = rb.IF(), 2 * torch.rand(8, 4, 64, 16, 16)
    kept, _ = layer(xs)
    before = kept.clone()
    for _ in range(3):
        layer(torch.zeros_like(xs))
    assert torch.equal(kept, before)


def test_a_copy_has_room_of_its_own() -> None:
    room = Room(small=0)
    room.empty((8,))
    for other in (copy.copy(room), copy.deepcopy(room)):
        assert (room.idle, other.idle) == (32, 0)


def test_a_state_that_is_kept_is_not_written_again() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    x = torch.rand(20, 6)
    net, _ = rb.convert(ann, rb.methods.opi(), [x])
    fast = rb.compile(net, x)
    ys, state = fast(rb.constant(x, steps=3))
    before = [membrane.v.clone() for membrane in state.memory.values()]
    for _ in range(3):
        fast(rb.constant(x.flip(0), steps=3))  # its state is dropped at once
    assert all(torch.equal(membrane.v, v) for membrane, v in zip(state.memory.values(), before, strict=True))
    on, _ = fast(rb.constant(x, steps=3), state)
    assert torch.equal(torch.cat([ys, on]), fast(rb.constant(x, steps=6))[0])
