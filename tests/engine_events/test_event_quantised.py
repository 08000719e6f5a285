"""Integers in place of floats: exact where they can be, near where the model goes."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unison.decode.continuous import DDIM, solve
from unison.decode.continuous.grids import Karras, Span
from unison.engine.continuous import stored
from unison.engine.continuous.calibration import (
    NormalTimes,
    OneTime,
    Range,
    Shown,
    on_the_way,
    ranges_of,
)
from unison.engine.continuous.layer import RoundedLayer, Weights
from unison.engine.continuous.quantised import fidelity, quantised
from unison.engine.continuous.rounding import between, weight_levels, weight_scale
from unison.event_denoising import Preconditioned
from unison.models.continuous import PointsConfig, UNetConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM

SPREAD, HIGH, LOW = 0.5, 40.0, 0.01
LEVELS = Karras().levels(Span(HIGH, LOW, EDM(), SPREAD), 16)


def images(rows, key):
    """Blobs of random place and width on 8 x 8, in -1 ... 1."""
    u = rng.uniform(key, 3, 3).float()[:rows, :, None, None]
    line = torch.linspace(0, 1, 8)
    far = (line[:, None] - u[:, 0]) ** 2 + (line - u[:, 1]) ** 2
    return (2 * torch.exp(-far / (0.02 + 0.1 * u[:, 2])) - 1)[:, None]


def denoiser(network, gradients=False):
    return Preconditioned(network, spread=SPREAD, span=(LOW, HIGH), gradients=gradients)


def trained(config, steps):
    """A network briefly trained to denoise blobs; flattened where it takes points."""
    network = build(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(steps):
        key = Key(rng.rows(0, 0, 32), step)
        clean = shaped(images(32, key), config)
        s = (-1 + 1.4 * torch.special.ndtri(rng.uniform(key, 5, 1)[:, 0])).exp().float()
        wide = s.view(-1, *[1] * (clean.ndim - 1))
        y = clean + wide * rng.normal(key, 4, 64).float().view_as(clean)
        error = denoiser(network, gradients=True)(y, s) - clean
        loss = ((1 / SPREAD**2 + wide**-2) * error.square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def shaped(events, config):
    return events.flatten(1) if isinstance(config, PointsConfig) else events


def begun(seed, rows, config):
    key = Key(rng.rows(seed, 0, rows))
    return shaped(HIGH * rng.normal(key, 7, 64).float().view(rows, 1, 8, 8), config), key


def cases_of(network, config):
    """Events on their way at every level, of runs that no calibration saw."""
    x, key = begun(99, 32, config)
    cases = []

    def keep(step, state):
        cases.append(Shown(state.x.clone(), torch.full((32,), LEVELS[step])))

    solve(DDIM(), LEVELS, denoiser(network), x, key, keep)
    return cases


@pytest.fixture(scope="module", params=["points", "unet"])
def model(request):
    config = {
        "points": PointsConfig(channels=64, width=48, depth=2),
        "unet": UNetConfig(width=8),
    }[request.param]
    return config, trained(config, 80)


def calibrated(network, config, law):
    shown = on_the_way(DDIM(), LEVELS, denoiser(network), begun(1, 64, config), law)
    return ranges_of(network, denoiser(network), shown)


def mean_error(network, rounded, cases):
    found = fidelity(denoiser(network), denoiser(rounded), cases)
    return sum(case.error for case in found) / len(found), found


def test_levels_survive_the_way_to_values_and_back():
    for bits in range(2, 9):
        grid = between(torch.tensor(-1.3), torch.tensor(2.9), bits)
        every = torch.arange(2**bits).float()
        assert torch.equal(grid.levels(grid.values(every)), every)
        assert grid.nearest(torch.zeros(())) == 0  # padding is exact
        weight = torch.linspace(-1, 1, 64).view(4, 16)
        scale = weight_scale(weight, bits)
        levels = weight_levels(weight, scale, bits)
        assert torch.equal(weight_levels(levels * scale[:, None], scale, bits), levels)


def test_rounding_errs_by_half_a_step_at_most():
    x = torch.linspace(-1, 3, 1001)
    grid = between(x.min(), x.max(), 8)
    assert (grid.nearest(x) - x).abs().max() <= grid.scale * (0.5 + 1e-4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(24, 10), (5, 7, 24)),
        (nn.Conv2d(6, 9, 3, padding=1), (2, 6, 8, 5)),
        (nn.Conv2d(6, 9, (3, 1), stride=2, padding=(0, 2)), (2, 6, 8, 5)),
        (nn.Conv1d(4, 8, 5, stride=2, padding=2, bias=False), (3, 4, 11)),
    ],
)
def test_products_of_integers_are_those_of_their_values(layer, shape):
    x = torch.linspace(-1, 2, torch.Size(shape).numel()).sin().view(shape) + 0.3
    scale = weight_scale(layer.weight, 8)
    weights = Weights(weight_levels(layer.weight, scale, 8), scale, 8)
    rounded = RoundedLayer(layer, weights, 8, between(x.min(), x.max(), 8)).double()
    rounded.integers = True
    grid = rounded.grid(x.double())
    seen = grid.nearest(x.double())  # in float64 the values' product is exact to 1e-14
    kernel = {nn.Linear: F.linear, nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d}[type(layer)]
    places = () if isinstance(layer, nn.Linear) else (layer.stride, layer.padding)
    wanted = kernel(seen, rounded.weight, rounded.bias, *places)
    torch.testing.assert_close(rounded(x.double()), wanted, rtol=0, atol=1e-12)


def test_rows_are_stopped_where_the_law_says():
    def halving(x, level):
        return x / 2

    x = torch.ones(200, 3)
    key = Key(rng.rows(5, 0, 200))
    grid = (8.0, 4.0, 2.0, 1.0, 0.0)
    # DDIM with D = y / 2: a step from s to s / 2 takes y to 3 y / 4.
    stopped = {8.0: 1.0, 4.0: 0.75, 2.0: 0.75**2, 1.0: 0.75**3}
    for law in (NormalTimes(), OneTime(1.0), OneTime(0.0)):
        shown = on_the_way(DDIM(), grid, halving, (x, key), law)
        for level, value in zip(shown.level.tolist(), shown.x[:, 0].tolist(), strict=True):
            assert value == pytest.approx(stopped[level])
        if law == OneTime(1.0):
            assert set(shown.level.tolist()) == {8.0}
        if law == OneTime(0.0):
            assert set(shown.level.tolist()) == {1.0}
    everywhere = on_the_way(DDIM(), grid, halving, (x, key), NormalTimes())
    assert set(everywhere.level.tolist()) == {8.0, 4.0, 2.0, 1.0}


def test_calibration_along_the_way_beats_one_level_and_pure_noise(model):
    config, network = model
    cases = cases_of(network, config)
    laws = {"way": NormalTimes(), "noise": OneTime(1.0), "half": OneTime(0.5), "end": OneTime(0.0)}
    error = {
        name: mean_error(network, quantised(network, calibrated(network, config, law)), cases)[0]
        for name, law in laws.items()
    }
    assert error["way"] < 0.8 * min(error["noise"], error["half"], error["end"])


def test_eight_bits_keep_thirty_decibels_at_every_level(model):
    config, network = model
    cases = cases_of(network, config)
    ranges = calibrated(network, config, NormalTimes())
    table = mean_error(network, quantised(network, ranges), cases)[1]
    assert [row.level for row in table] == [pytest.approx(level) for level in LEVELS]
    assert min(row.sqnr for row in table) > 30
    coarse = mean_error(network, quantised(network, ranges, bits=5), cases)[1]
    assert all(few.sqnr < row.sqnr - 6 for few, row in zip(coarse, table, strict=True))


def test_integers_give_the_model_that_values_give(model):
    config, network = model
    ranges = calibrated(network, config, NormalTimes())
    case = cases_of(network, config)[6]
    values, whole = (
        denoiser(quantised(network, ranges, integers=flag))(*case) for flag in (False, True)
    )
    # A float32 sum may fall on the other side of a level's edge: rarely, and by one level.
    assert (values - whole).abs().quantile(0.9) < 1e-5
    assert (values - whole).abs().max() < 0.05


@pytest.mark.parametrize("bits", [4, 8])
def test_a_rounded_network_is_read_as_it_was_written(model, bits, tmp_path):
    config, network = model
    rounded = quantised(network, calibrated(network, config, NormalTimes()), bits)
    stored.save(rounded, tmp_path / "small")
    read = stored.load(tmp_path / "small")
    x, level = cases_of(network, config)[3]
    assert torch.equal(denoiser(read)(x, level), denoiser(rounded)(x, level))
    size = (tmp_path / "small" / "model.safetensors").stat().st_size
    whole = sum(4 * weight.numel() for weight in network.state_dict().values())
    assert size < (0.62 if isinstance(config, UNetConfig) else 0.42) * whole


def test_halves_of_bytes_survive():
    for count in (1, 2, 7, 16):
        levels = (torch.arange(count) % 16 - 8).to(torch.int8)
        assert torch.equal(stored.whole(stored.halved(levels), levels.shape), levels)


def test_folders_that_are_not_whole_are_refused(model, tmp_path):
    config, network = model
    rounded = quantised(network, calibrated(network, config, OneTime(0.5)))
    with pytest.raises(ValueError, match="no layer of the network is rounded"):
        stored.save(network, tmp_path / "dense")
    with pytest.raises(stored.RoundedFileError, match="no whole rounded network"):
        stored.load(tmp_path / "nothing")
    stored.save(rounded, tmp_path / "small")
    place = tmp_path / "small" / "config.json"
    described = json.loads(place.read_text())
    place.write_text(json.dumps({**described, "format_version": 99}))
    with pytest.raises(stored.RoundedFileError, match="version 99"):
        stored.load(tmp_path / "small")


def test_what_cannot_be_rounded_is_refused():
    network = nn.Sequential(nn.Linear(4, 4), nn.SiLU())
    with pytest.raises(ValueError, match="calibrate first"):
        quantised(network, {})
    with pytest.raises(ValueError, match="no dense map"):
        quantised(network, {"1": Range(0.0, 1.0)})
    with pytest.raises(ValueError, match="bits must be from 2 to 8"):
        quantised(network, {"0": Range(0.0, 1.0)}, bits=12)
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ValueError, match="leave the layer as it is"):
        quantised(grouped, {"0": Range(0.0, 1.0)})
