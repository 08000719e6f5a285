"""Patches of one image on several workers: what is exact, what lateness costs, what is sent."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from ranks import gloo, run
from small_unets import CONFIG, distance, drawn, levels, network, plain, start
from torch import nn

from unison.engine.continuous.patch_transport import ManyProcesses, OneProcess
from unison.engine.continuous.patches import StaleContext, neighbours
from unison.event_denoising import Residual
from unison.models.continuous.parts import PlaceAttention
from unison.process.continuous import ResShift

DEEP = replace(CONFIG, multipliers=(1, 2, 2), attention=(1,), blocks=2)
LAYERS = (nn.Conv2d, nn.GroupNorm, PlaceAttention)


def at(level, rows=2):
    return torch.full((rows,), level)


def wide(rows=2, high=20.0, seed=3, channels=1):
    return start(rows, 16, channels, high, seed)


def away(context, patches, steps, net=None, high=20.0):
    """How far a run in patches ends from that in one piece."""
    denoise, grid = plain(net), levels(steps, high)
    x = wide(high=high)
    split = context.with_memory(denoise, OneProcess(patches))
    return distance(drawn(split, steps, x=x, grid=grid), drawn(denoise, steps, x=x, grid=grid))


class TestFreshAndWhole:
    @pytest.mark.parametrize("patches", [1, 2, 4])
    def test_the_answer_is_that_of_one_piece(self, patches):
        denoise = plain(network(DEEP, 1.0))
        split = StaleContext(1.0, lag=0).with_memory(denoise, OneProcess(patches))
        for level in (20.0, 1.0, 0.1):
            x = wide(high=level)
            torch.testing.assert_close(
                split(x, at(level)), denoise(x, at(level)), atol=1e-5, rtol=1e-5
            )

    def test_a_whole_run_is_that_of_one_piece(self):
        assert away(StaleContext(1.0, lag=0), 4, 8) < 1e-5

    def test_warm_steps_are_fresh_however_long_the_lag(self):
        assert away(StaleContext(1.0, lag=3, warm=8), 2, 8) < 1e-5

    def test_labels_and_what_lies_beside_are_cut_along(self):
        net = network(replace(CONFIG, classes=3, beside_channels=2))
        beside = wide(channels=2, high=1.0, seed=7)
        denoise = plain(net, label=torch.tensor([2, 0]), beside=beside)
        split = StaleContext(lag=0).with_memory(denoise, OneProcess(2))
        x = wide(high=1.0)
        torch.testing.assert_close(split(x, at(1.0)), denoise(x, at(1.0)), atol=1e-5, rtol=1e-5)

    def test_a_residual_denoiser_is_cut_along(self):
        net = network(replace(CONFIG, beside_channels=1))
        denoise = Residual(net, ResShift(), wide(high=1.0, seed=5), 0.4)
        split = StaleContext(lag=0).with_memory(denoise, OneProcess(4))
        x = wide(high=1.0)
        torch.testing.assert_close(split(x, at(0.5)), denoise(x, at(0.5)), atol=1e-5, rtol=1e-5)

    def test_the_network_of_the_user_is_left_alone(self):
        net, x = network(), wide()
        before = net(x, at(0.5))
        StaleContext().with_memory(plain(net), OneProcess(2))(x, at(20.0))
        assert torch.equal(net(x, at(0.5)), before)
        assert {type(layer).__module__ for layer in net.modules()}.isdisjoint(
            {"unison.engine.continuous.patch_layers"}
        )

    def test_weights_are_shared_not_copied(self):
        net = network()
        split = StaleContext(lag=0).with_memory(plain(net), OneProcess(2))
        net.head.weight.zero_()
        net.head.bias.zero_()
        x = wide(high=1.0)
        torch.testing.assert_close(split(x, at(1.0)), 0.25 / 1.25 * x)  # skip y + out 0


class TestLateAndPartial:
    def test_the_longer_the_lag_the_further_away(self):
        found = [away(StaleContext(1.0, lag, warm=1), 2, 12) for lag in (0, 1, 4)]
        assert found[0] < 1e-5
        assert all(low < high for low, high in pairwise(found)), found

    def test_the_more_steps_the_nearer(self):
        found = [away(StaleContext(1.0, 1, warm=1), 2, steps) for steps in (6, 12, 24)]
        assert all(low > high > 0 for low, high in pairwise(found)), found

    def test_the_more_context_the_nearer(self):
        net = network(strength=1.5)
        found = [away(StaleContext(ratio, 0), 4, 8, net) for ratio in (0.0, 0.5, 1.0)]
        assert found[0] > found[1] > 10 * found[2]
        assert found[2] < 1e-4

    def test_what_is_late_is_what_was_said_then(self):
        # Where the events stay, an old message says what a fresh one would, in every layer.
        denoise = plain()
        split = StaleContext(1.0, lag=2, warm=0).with_memory(denoise, OneProcess(2))
        x = wide(high=1.0)
        for _ in range(3):
            torch.testing.assert_close(split(x, at(1.0)), denoise(x, at(1.0)), atol=1e-5, rtol=1e-5)
        changed = torch.cat([x[:, :, :8], 3 * x[:, :, 8:]], 2)
        fresh = denoise(changed, at(1.0))
        assert distance(split(changed, at(1.0)), fresh) > 1e-3
        # Each layer hears of the change two steps later than the one before: after as many steps
        # as there are layers, twice, nothing old is left.
        for _ in range(2 * sum(isinstance(layer, LAYERS) for layer in denoise.network.modules())):
            late = split(changed, at(1.0))
        torch.testing.assert_close(late, fresh, atol=1e-5, rtol=1e-5)

    def test_statistics_are_corrected_by_what_the_patch_itself_has_seen(self):
        split = StaleContext(1.0, lag=1, warm=0).with_memory(plain(), OneProcess(2))
        norm = split._network.norm
        draw = torch.Generator().manual_seed(0)
        old, new = (torch.randn(4, 8, 8, 16, generator=draw) + shift for shift in (0, 1))
        split.said.begin(torch.empty(0))
        norm(old)
        split.said.begin(torch.empty(0))
        got = norm(new)
        mean = {name: h.mean((1, 2, 3)) for name, h in (("old", old), ("new", new))}
        square = {name: h.square().mean((1, 2, 3)) for name, h in (("old", old), ("new", new))}
        for row, other in ((0, 2), (1, 3), (2, 0), (3, 1)):
            first, second = (
                (of["old"][row] + of["old"][other]) / 2 + of["new"][row] - of["old"][row]
                for of in (mean, square)
            )
            scale = (second - first**2 + norm.norm.eps).rsqrt()
            wanted = (new[row] - first) * scale * norm.norm.weight[:, None, None]
            torch.testing.assert_close(
                got[row], wanted + norm.norm.bias[:, None, None], atol=1e-5, rtol=1e-4
            )


def formula(net, x, patches, ratio):
    """Bytes of one evaluation, from the shapes that the layers of the whole network see."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda *told, name=name: seen.append((name, *told[:2])))
        for name, layer in net.named_modules()
        if isinstance(layer, LAYERS)
    ]
    net(x, at(0.0, len(x)))
    for hook in hooks:
        hook.remove()
    sizes = {"rows": 0, "statistics": 0, "attention": 0, "answer": 4 * (patches - 1) * x.numel()}
    for name, layer, (h,) in seen:
        if isinstance(layer, nn.GroupNorm):
            sizes["statistics"] += 4 * 2 * patches * (patches - 1) * len(h) * layer.num_groups
        elif isinstance(layer, PlaceAttention):
            sizes["attention"] += 4 * 2 * h.shape[0] * h.shape[1] * others(h, patches, ratio)
        elif layer.kernel_size[0] == 3 and name != "stem":
            sides = 2 if layer.stride[0] == 1 else 1  # a stride of 2 reads no row below
            sizes["rows"] += 4 * sides * (patches - 1) * h[:, :, 0].numel()
    return sizes


def others(h, patches, ratio):
    """Places of others that all patches together attend to."""
    places = h.shape[2] * h.shape[3] // patches
    reach = round(ratio * (patches - 1) * places)
    above = [min(reach, patch * places) for patch in range(patches)]
    return sum(above) + sum(above[::-1])


class TestTraffic:
    @pytest.mark.parametrize(("patches", "ratio"), [(2, 1.0), (4, 1.0), (4, 0.1), (2, 0.25)])
    def test_bytes_are_those_of_the_formula(self, patches, ratio):
        net, x = network(DEEP), wide(3)
        split = StaleContext(ratio).with_memory(plain(net), OneProcess(patches))
        for level in (20.0, 10.0):
            split(x, at(level, 3))
        expected = {kind: 2 * size for kind, size in formula(net, x, patches, ratio).items()}
        assert split.traffic == expected

    def test_attention_of_one_level_by_hand(self):
        # 16 x 16, halved once: 64 places of 16 channels, 2 floats each, 4 bytes a float.
        net = network(replace(CONFIG, attention=()))
        split = StaleContext().with_memory(plain(net), OneProcess(2))
        split(wide(1), at(20.0, 1))
        assert split.traffic["attention"] == 64 * 16 * 2 * 4

    def test_only_neighbours_talk_where_only_they_are_seen(self):
        context = neighbours(0.5, patches=4)
        assert context.ratio == pytest.approx(1 / 6)
        whole, part = (one.with_memory(plain(), OneProcess(4)) for one in (StaleContext(), context))
        for split in (whole, part):
            split(wide(1), at(20.0, 1))
        # 4 patches hear 3 others in whole, or 6 sides between neighbours in half.
        assert part.traffic["attention"] / whole.traffic["attention"] == 6 * 0.5 / 12

    def test_no_context_is_no_message(self):
        split = StaleContext(0.0).with_memory(plain(), OneProcess(4))
        split(wide(1), at(20.0, 1))
        assert split.traffic["attention"] == 0


class TestRuns:
    def test_a_second_run_of_one_memory_is_refused(self):
        split = StaleContext().with_memory(plain())
        drawn(split, 6, x=wide())
        with pytest.raises(ValueError, match="make one for each run"):
            drawn(split, 6, x=wide())

    def test_forks_remember_apart(self):
        rows = torch.tensor([1, 0, 1])
        grid, x = levels(6), wide()
        split = StaleContext(warm=0).with_memory(plain(), OneProcess(2))
        split(x, at(grid[0]))
        fork = split.keep(rows)
        y = wide(seed=9)
        torch.testing.assert_close(fork(y[rows], at(grid[1], 3)), split(y, at(grid[1]))[rows])

    def test_images_that_cannot_be_cut_are_refused(self):
        split = StaleContext().with_memory(plain(), OneProcess(3))
        with pytest.raises(ValueError, match="multiple of 6"):
            split(wide(), at(1.0))

    def test_settings_that_say_nothing_are_refused(self):
        with pytest.raises(ValueError, match="ratio"):
            StaleContext(1.5)
        with pytest.raises(ValueError, match="at least 0 steps"):
            StaleContext(lag=-1)
        with pytest.raises(ValueError, match="share"):
            neighbours(0.5, 1)
        with pytest.raises(ValueError, match="gradients"):
            StaleContext().with_memory(plain(gradients=True))
        with pytest.raises(ValueError, match="at least 1 patch"):
            OneProcess(0)


def late(ratio):
    return StaleContext(ratio, lag=2, warm=2)


def worker(rank, size, ratios):
    """One process: one patch of the events, all of the solver."""
    del rank, size
    told = []
    for ratio in ratios:
        split = late(ratio).with_memory(plain(network(DEEP)), ManyProcesses())
        told.append((drawn(split, 6, x=wide()), dict(split.traffic)))
        split.finish()
    return told


def checked(size, ratios):
    """Compare processes with the simulator."""
    for ratio, told in zip(ratios, zip(*run(size, worker, ratios), strict=True), strict=True):
        alone = late(ratio).with_memory(plain(network(DEEP)), OneProcess(size))
        x = drawn(alone, 6, x=wide())
        for seen, _ in told:
            torch.testing.assert_close(seen, x, atol=1e-5, rtol=1e-5)
            assert torch.equal(seen, told[0][0])
        for kind, sent in alone.traffic.items():
            assert sum(traffic[kind] for _, traffic in told) == sent


@gloo
class TestManyProcesses:
    def test_two_processes_answer_as_the_simulator(self):
        checked(2, (1.0,))

    @pytest.mark.slow
    def test_four_processes_answer_as_the_simulator(self):
        checked(4, (1.0, 0.1, 0.5))

    def test_without_a_group_there_are_none(self):
        with pytest.raises(ValueError, match="init_process_group"):
            ManyProcesses()
