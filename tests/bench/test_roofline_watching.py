"""What operations compute and move is counted exactly, whatever they take."""

import pytest
import torch

from unison.bench.roofline import clock, watching
from unison.bench.roofline.clock import Inside
from unison.bench.roofline.watching import Watching
from unison.bench.training import flops
from unison.models import Transformer, TransformerConfig, View, remember

CPU = torch.device("cpu")
VOCAB, ROWS, LENGTH = 11, 4, 8  # rows that nothing needs filling up


def network(**changes):
    usual = {"hidden": 16, "depth": 2, "heads": 4, "cond_dim": 6, "max_length": LENGTH}
    return Transformer(TransformerConfig(vocab_size=VOCAB, num_states=VOCAB + 1, **usual | changes))


def inputs():
    tokens = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) * 7 % VOCAB
    return tokens, torch.linspace(0.1, 0.9, ROWS)


def watched(work, step=lambda: 0):
    with Watching(CPU, step) as mode:
        work()
    return mode.watched()


class TestFlops:
    @pytest.mark.parametrize("changes", [{}, {"time": "none", "kv_heads": 2, "mlp": "swiglu"}])
    def test_an_evaluation_and_its_gradient_are_the_closed_formula(self, changes):
        made = network(**changes)
        with torch.no_grad():
            once = watched(lambda: made(*inputs()))
        both = watched(lambda: made(*inputs()).sum().backward())
        assert once.flops == {"float32": flops.forward(made.config, ROWS, LENGTH).total}
        assert both.flops == {"float32": flops.training(made.config, ROWS, LENGTH).total}

    def test_inference_mode_hides_nothing(self):
        made = network()
        with torch.inference_mode():
            found = watched(lambda: made(*inputs()))
        assert found.flops == {"float32": flops.forward(made.config, ROWS, LENGTH).total}

    def test_products_are_told_apart_by_type(self):
        a = torch.ones(2, 3)
        found = watched(lambda: (a @ a.T, a.bfloat16() @ a.bfloat16().T))
        assert found.flops == {"float32": 2 * 2 * 3 * 2, "bfloat16": 2 * 2 * 3 * 2}

    def test_whole_number_products_count_too(self):
        a = torch.ones(32, 32, dtype=torch.int8)
        assert watched(lambda: torch._int_mm(a, a)).flops == {"int8": 2 * 32**3}


class TestBytes:
    def test_an_evaluation_must_read_its_weights_once_and_as_much_embedding_as_it_looks_up(self):
        made = network(time="none")
        tokens, sigma = inputs()
        with torch.no_grad():
            found = watched(lambda: made(tokens, sigma))
        weights = sum(w.numel() for name, w in made.named_parameters() if name != "embed.weight")
        assert found.bytes == 4 * weights + 4 * tokens.numel() * 16 + 8 * tokens.numel()
        assert found.traffic > found.bytes

    def test_what_is_made_on_the_way_is_free_and_what_was_there_is_not(self):
        a, b = torch.ones(100), torch.ones(50)
        found = watched(lambda: (a + 1).exp().mul_(2).sum() + b.sum() + a.sum())
        assert found.bytes == 4 * (100 + 50)

    def test_what_changes_is_read_and_written_once(self):
        a = torch.ones(100)
        assert watched(lambda: a.add_(1).mul_(2)).bytes == 4 * (100 + 100)

    def test_an_operation_says_what_of_it_was_there_before(self):
        a, b = torch.ones(100), torch.ones(100)
        found = watched(lambda: (a + b) * b)
        far = {one.name: (one.bytes, one.far) for one in found.operations}
        assert far == {"add": (1200, 800), "mul": (1200, 400)}

    def test_steps_read_anew(self):
        a, step = torch.ones(100), [0]

        def work():
            a.sum()
            step[0] += 1
            a.sum()

        assert watched(work).bytes == 400
        assert watched(work, lambda: step[0]).bytes == 800

    def test_putting_a_little_into_a_large_room_moves_a_little(self):
        room, index, fresh = torch.zeros(1000), torch.tensor([3]), torch.ones(1)
        assert watched(lambda: room.scatter_(0, index, fresh)).bytes == 8 + 4 + 4

    def test_views_and_empty_room_are_no_operations(self):
        a = torch.ones(4, 6)
        found = watched(lambda: (a.T.reshape(3, 8)[0], torch.empty(9), a[1:].view(-1)))
        assert [one.name for one in found.operations] == ["clone"]

    def test_a_remembered_token_reads_weights_and_memory(self):
        made = network(time="none", attention="causal")
        memory = remember(made.config, 1, LENGTH, made.embed.weight)
        place = torch.tensor([[5]])
        view = View(place, place, memory)
        with torch.no_grad():
            found = watched(lambda: made(inputs()[0][:1], torch.zeros(1), view=view))
        plain = flops.forward(made.config, 1, 1)
        filled = 4 * (plain.total - plain.attention)  # one row is filled up to four: layers.steady
        assert found.flops == {"float32": filled + LENGTH * plain.attention}
        weights = sum(w.numel() for name, w in made.named_parameters() if name != "embed.weight")
        kept = sum(part.numel() for part in (*memory.keys, *memory.values))
        fresh = kept // LENGTH
        assert 4 * (weights + kept + fresh) < found.bytes < 4 * (weights + kept + fresh) + 2000


class TestOperations:
    def test_kind_pass_shape_and_calls_are_told(self):
        a = torch.ones(4, 6, requires_grad=True)
        b = torch.ones(6, 2)

        found = watched(lambda: sum((a @ b).sum() for _ in range(2)).backward())
        told = {(one.kind, one.name, one.shape): s.calls for one, s in found.operations.items()}
        assert told["products", "mm", "4 x 6 x 2"] == 2
        assert told["products, backward", "mm", "4 x 2 x 6"] == 2
        assert told["sums", "sum", "4 x 2"] == 2

    def test_times_are_of_the_operation_that_took_them(self, monkeypatch):
        moments = iter([0.0, 1.0, 10.0, 13.0, 20.0, 21.0])
        monkeypatch.setattr(watching, "now", lambda device: next(moments))
        a = torch.ones(3)
        found = watched(lambda: (a.exp(), a.sum(), a.exp()))
        seconds = {one.name: spent for one, spent in found.operations.items()}
        assert seconds["exp"] == (2, 2.0)
        assert seconds["sum"] == (1, 3.0)

    def test_the_price_of_a_call_is_the_least_that_one_took(self, monkeypatch):
        steps = iter(range(1000))
        monkeypatch.setattr(watching, "now", lambda device: float(next(steps) ** 2))
        assert watching.price(CPU) == 1.0


class TestInside:
    def test_time_inside_a_network_counts_once_however_deep(self, monkeypatch):
        moments = iter([1.0, 4.0, 10.0, 16.0])
        monkeypatch.setattr(clock, "now", lambda device: next(moments))
        inside, outer = Inside(CPU), torch.nn.Sequential(torch.nn.Linear(2, 2))
        inside.watch(outer)
        inside.watch(outer[0])
        outer(torch.ones(1, 2))
        inside.around(outer)(torch.ones(1, 2))
        assert inside.taken() == 3.0 + 6.0
        assert inside.taken() == 0.0

    def test_a_call_that_fails_ends_too(self, monkeypatch):
        moments = iter([1.0, 2.0, 5.0, 9.0])
        monkeypatch.setattr(clock, "now", lambda device: next(moments))
        inside, network = Inside(CPU), torch.nn.Linear(2, 2)
        inside.watch(network)
        with pytest.raises(RuntimeError):
            network(torch.ones(1, 3))
        network(torch.ones(1, 2))
        assert inside.taken() == 1.0 + 4.0
