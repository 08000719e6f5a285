"""Weights that share: a balanced map, a stable step, a small file and an ordinary model."""

import dataclasses
import itertools
import math

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from unison import checkpoints
from unison.models import MixtureConfig, Transformer, sharing
from unison.models.formats import own, pools, reading, tensors, writing
from unison.models.formats.blueprint import Blueprint, CheckpointError
from unison.models.sharing import fold as folds
from unison.models.sharing.fold import Fold
from unison.models.sharing.pools import Pool
from unison.scale.config import Scale
from unison.train import Optimizer

SIZES = [(64, 64, 8), (64, 32, 8), (72, 24, 8), (40, 16, 4), (30, 7, 1), (12, 1, 1)]


def _matrix(fold: Fold) -> torch.Tensor:
    """S, column by column."""
    unit = torch.eye(fold.slots, dtype=torch.float64)
    return torch.stack([folds.unfolded(e, fold, 0, (fold.weights,)) for e in unit], dim=1)


@pytest.mark.parametrize("sizes", SIZES)
def test_every_weight_is_one_number_with_a_sign_and_numbers_are_used_alike(sizes):
    fold = folds.fold(*sizes, seed=3)
    s = _matrix(fold)
    assert torch.equal(s.abs().sum(1), torch.ones(fold.weights, dtype=torch.float64))
    assert set(s.unique().tolist()) <= {-1.0, 0.0, 1.0}
    used = s.abs().sum(0).long()
    assert used.min() == fold.weights // fold.slots
    assert used.max() == math.ceil(fold.weights / fold.slots)
    assert torch.equal(used, fold.sharers().repeat_interleave(fold.chunk))
    assert torch.equal(s[: fold.slots], torch.eye(fold.slots, dtype=torch.float64))


def test_a_map_is_a_function_of_its_seed_and_signs_are_fair():
    first, again, other = (folds.fold(4096, 512, 8, seed) for seed in (5, 5, 6))
    assert torch.equal(first.places, again.places)
    assert torch.equal(first.signs, again.signs)
    assert not torch.equal(first.places, other.places)
    assert not torch.equal(first.signs, other.signs)
    drawn = first.signs[512:].double()
    assert abs(float(drawn.sum())) < 5 * math.sqrt(len(drawn))  # false alarm below 1e-6


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_of_the_pool_is_the_signed_sum_over_its_sharers_divided_by_their_number(sizes):
    fold = folds.fold(*sizes, seed=4)
    torch.manual_seed(0)
    pool = torch.randn(fold.slots, dtype=torch.float64, requires_grad=True)
    dense = torch.randn(fold.weights, dtype=torch.float64)
    for start, stop in ((0, fold.weights), (fold.chunk, fold.weights), (0, fold.chunk)):
        pool.grad = None
        (folds.unfolded(pool, fold, start, (stop - start,)) * dense[start:stop]).sum().backward()
        wanted = _matrix(fold)[start:stop].T @ dense[start:stop]
        assert pool.grad is not None
        torch.testing.assert_close(pool.grad, wanted / _matrix(fold).abs().sum(0))


@pytest.mark.parametrize("sizes", SIZES)
def test_a_step_is_the_dense_step_projected_so_no_sharers_make_it_unstable(sizes):
    fold = folds.fold(*sizes, seed=1)
    s = _matrix(fold)
    step = s @ torch.diag(1 / s.abs().sum(0)) @ s.T
    torch.testing.assert_close(step @ step, step)
    torch.testing.assert_close(step, step.T)
    torch.manual_seed(2)
    root = torch.randn(fold.weights, fold.weights, dtype=torch.float64)
    curvature = root @ root.T
    most = torch.linalg.eigvalsh(curvature)[-1]
    assert torch.linalg.eigvalsh(step @ curvature @ step)[-1] <= most * (1 + 1e-12)
    rate, pool = 1.9 / most, torch.randn(fold.slots, dtype=torch.float64, requires_grad=True)
    losses = []
    for _ in range(20):
        w = folds.unfolded(pool, fold, 0, (fold.weights,))
        loss = w @ curvature @ w / 2
        (grad,) = torch.autograd.grad(loss, pool)
        pool = (pool - rate * grad).detach().requires_grad_()
        losses.append(loss.item())
    assert all(later <= before for before, later in itertools.pairwise(losses))


def test_without_the_division_curvature_grows_with_the_number_of_sharers():
    fold = folds.fold(64, 8, 1, seed=0)
    s = _matrix(fold)
    assert torch.linalg.eigvalsh(s @ s.T)[-1].item() == pytest.approx(8)  # of H = identity, 1


def test_over_all_signs_the_undivided_step_changes_an_output_as_the_dense_one_does():
    torch.manual_seed(7)
    gradient, output = torch.randn(2, 6, dtype=torch.float64)
    places = torch.tensor([0, 1, 1, 0, 0, 1])
    changes = []
    for signs in itertools.product((1, -1), repeat=6):
        fold = Fold(places, torch.tensor(signs, dtype=torch.int8), 1, 2)
        changes.append(output @ _matrix(fold) @ folds.folded(gradient, fold))
    torch.testing.assert_close(torch.stack(changes).mean(), output @ gradient)


@pytest.mark.parametrize("sizes", SIZES)
def test_weights_begin_with_the_spread_they_had(sizes):
    fold = folds.fold(*sizes, seed=9)
    unit = torch.eye(fold.weights, dtype=torch.float64)
    begun = torch.stack([folds.begun(e, fold) for e in unit], dim=1)  # a linear map of the weights
    covariance = _matrix(fold) @ begun @ begun.T @ _matrix(fold).T
    torch.testing.assert_close(covariance.diagonal(), torch.ones(fold.weights, dtype=torch.float64))


@pytest.mark.parametrize("sizes", SIZES)
def test_a_step_of_signs_moves_every_weight_alike_and_an_output_no_more_than_without_sharing(sizes):
    fold, s = folds.fold(*sizes, seed=2), _matrix(folds.fold(*sizes, seed=2))
    torch.manual_seed(3)
    output = torch.randn(fold.weights, dtype=torch.float64)
    moved = s @ folds.folded(output, fold).sign()
    assert torch.equal(moved.abs(), torch.ones(fold.weights, dtype=torch.float64))
    assert output @ moved <= output.abs().sum() + 1e-12


def test_sizes_that_are_not_whole_pieces_are_refused():
    with pytest.raises(ValueError, match="whole pieces of 8"):
        folds.fold(60, 16, 8, 0)
    with pytest.raises(ValueError, match="not more than the weights"):
        folds.fold(16, 32, 8, 0)
    with pytest.raises(ValueError, match=r"in \(0, 1\], got 1.5"):
        folds.slots_of(64, 1.5, 8)


def _network(family: str = "duo", **changes) -> Transformer:
    model = tiny.model(family, **changes)
    assert isinstance(model.network, Transformer)
    return model.network


def _loss(network: Transformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    size, length = network.config.vocab_size, network.config.max_length
    tokens = torch.randint(size, (3, length), generator=generator)
    answers = network(tokens, torch.tensor([0.1, 1.0, 3.0]))
    return (answers * torch.randn(answers.shape, generator=generator)).sum()


SHAPES = {
    "time": {"depth": 3},
    "tied": {"tied": True, "depth": 2, "mlp": "swiglu", "norm": "rms"},
    "places": {"positions": "learned", "qkv_bias": True, "self_conditioning": True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_share_of_one_is_the_dense_network_to_the_last_bit(shape):
    dense = _network(**SHAPES[shape])
    same = sharing.shared(dense, 1.0, 5)
    losses = _loss(dense), _loss(same)
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    weights = {n: w.grad for n, w in dense.named_parameters() if w.grad is not None}
    grads = _of_pools(same)
    assert grads.keys() == weights.keys()
    for name, grad in grads.items():
        assert torch.equal(grad, weights[name]), name


def _of_pools(network: Transformer) -> dict[str, torch.Tensor]:
    """Gradients under the names of the dense network, read as the weights are."""
    grads = {n: w.grad for n, w in network.named_parameters() if w.grad is not None}
    found = {n: grad for n, grad in grads.items() if not n.startswith("pools.")}
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None:
                weight.copy_(weight.grad)
        read = sharing.expanded(network).state_dict()
    learnt = {n.split(".")[1] for n in grads if n.startswith("pools.")}
    roles = {n: pools.role_of(n.removesuffix(".weight")) for n in read if n not in found}
    return found | {name: read[name] for name, role in roles.items() if role in learnt}


@pytest.mark.parametrize("share", [0.5, 0.25, 0.13])
def test_an_expanded_network_answers_as_the_sharing_one_whose_pools_get_its_folded_gradient(share):
    small = sharing.shared(_network(depth=3), share, 2)
    dense = sharing.expanded(small)
    losses = _loss(small), _loss(dense)
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    roles: dict[str, list[torch.Tensor]] = {}
    for name, weight in dense.named_parameters():
        if f"{name.removesuffix('.weight')}.slots" in small.state_dict():
            role = pools.role_of(name.removesuffix(".weight"))
            roles.setdefault(role, []).append(torch.as_tensor(weight.grad).flatten())
    held = {name: part for name, part in small.named_modules() if isinstance(part, Pool)}
    assert {f"pools.{role}" for role in roles} == held.keys()
    for role, grads in roles.items():
        pool = held[f"pools.{role}"]
        folded = folds.folded(torch.cat(grads), pool.fold).view(-1, pool.chunk)
        wanted = (folded / pool.fold.sharers()[:, None]).flatten()
        torch.testing.assert_close(pool.numbers.grad, wanted)


def test_a_network_learns_as_many_numbers_as_it_is_told():
    dense = _network(hidden=64, depth=4, heads=4)
    kept = sum(w.numel() for w in dense.parameters() if w.ndim < 2)
    total = sum(w.numel() for w in dense.parameters())
    for share in (1.0, 0.5, 0.25, 0.125):
        counts = sharing.numbers(sharing.shared(dense, share, 0))
        assert counts["weights"] == total
        assert counts["numbers"] - kept == pytest.approx(share * (total - kept), rel=0.02)


def test_experts_do_not_share():
    shape = tiny.shape("duo", vocab_size=5, num_states=5, mixture=MixtureConfig(2, 1, 8))
    with pytest.raises(ValueError, match="experts cannot share"):
        sharing.shared(Transformer(shape), 0.5, 0)


def _written(network: Transformer, folder) -> Blueprint:
    blueprint = Blueprint(network.config, pools.pieces(network), "uniform")
    writing.write_weights(network, blueprint, folder)
    return dataclasses.replace(blueprint, pieces=own.pieces(network.config))


def test_a_file_holds_the_pools_and_opens_as_an_ordinary_network(tmp_path):
    small = sharing.shared(_network(hidden=64, depth=4, heads=4), 0.125, 2)
    blueprint = _written(small, tmp_path)
    store = pools.opened(tensors.in_folder(tmp_path))
    loaded = reading.assemble(blueprint, store, tmp_path)
    dense = sharing.expanded(small)
    assert not sharing.shares(loaded)
    for name, weight in dense.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    whole = sum(w.numel() for w in dense.parameters()) * 4
    assert (tmp_path / "model.safetensors").stat().st_size < 0.25 * whole


@pytest.mark.parametrize("damage", ["pool", "slots", "seed"])
def test_a_damaged_file_of_pools_is_refused(tmp_path, damage):
    _written(sharing.shared(_network(), 0.5, 2), tmp_path)
    path = tmp_path / "model.safetensors"
    held = load_file(path)
    if damage == "pool":
        del held["pools.embed.numbers"]
    elif damage == "slots":
        held["embed.slots"] = held["embed.slots"] * 100
    else:
        held["pools.embed.layout"] = held["pools.embed.layout"][:2]
    save_file(held, path)
    with pytest.raises(CheckpointError, match="damaged"):
        pools.opened(tensors.in_folder(tmp_path))


def test_a_run_that_shares_ends_as_if_never_cut_and_leaves_a_small_ordinary_model(tmp_path):
    settings, text = tiny.config(shared=0.25, model={"depth": 2}), tiny.corpus(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tiny.run(settings, text, whole)
    for step in (4, 10):
        with pytest.raises(tiny.Cut):
            tiny.run(settings, text, cut, cut=step, resume=True)
    tiny.run(settings, text, cut, resume=True)
    tiny.assert_same(whole, cut)
    loaded = checkpoints.load(whole)
    assert isinstance(loaded.network, Transformer)
    assert not sharing.shares(loaded.network)
    dense = sum(w.numel() for w in loaded.network.parameters())
    held = load_file(whole / "model.safetensors")
    assert sum(w.numel() for w in held.values() if w.is_floating_point()) < 0.45 * dense
    checkpoints.save(loaded, tmp_path / "again")
    again = checkpoints.load(tmp_path / "again").network.state_dict()
    for name, weight in loaded.network.state_dict().items():
        assert torch.equal(weight, again[name]), name


def test_a_share_of_one_trains_as_without_sharing(tmp_path):
    text, ends = tiny.corpus(tmp_path), []
    for share in (None, 1.0):
        settings = tiny.config(shared=share, optimizer=Optimizer(lr=1e-2, warmup=3, clip=1e6))
        ends.append(tiny.run(settings, text, tmp_path / str(share)).held_out)
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"shared": 0.0}, r"in \(0, 1\], got 0.0"),
        ({"shared": 0.5, "optimizer": Optimizer("muon")}, "Muon moves matrices"),
        ({"shared": 0.5, "scale": Scale("fsdp")}, "scale.plan=dp"),
        ({"shared": 0.5, "model": {"mixture": MixtureConfig(2, 1, 8)}}, "experts cannot share"),
    ],
)
def test_a_run_that_cannot_share_is_refused_before_it_begins(changes, match):
    with pytest.raises(ValueError, match=match):
        tiny.config(**changes)
