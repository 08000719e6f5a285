"""On a GPU no step waits: nothing is fetched from the device inside one, and nothing sent to it."""

import dataclasses

import pytest
import torch
from pretended import pretended

from unison.decode import STRATEGIES, Canvas
from unison.decode.composition import unready
from unison.decode.diffusion.composed import Composed
from unison.decode.order import ORDERS
from unison.decode.presets import PRESETS as NAMED
from unison.decode.revise import REVISIONS
from unison.decode.select import SELECTS
from unison.decode.stop import STOPS
from unison.decode.temper import Temper
from unison.denoising import RowDenoiser
from unison.models import PRESETS, Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES

VOCAB, LENGTH, ROWS = 50, 12, 3
ASKING = ("edlm", "guided", "learn2pd")  # need another model, or a file
TEMPER = Temper(0.7, top_k=5, top_p=0.9)
SLOW = pytest.mark.slow  # each part by itself: published presets hold most of them
PARTS = {"order": ORDERS, "select": SELECTS, "revise": REVISIONS, "stop": STOPS}
ABOUT = {
    **{name: kind() for name, kind in STRATEGIES.items()},
    **{name: make() for name, make in NAMED.items() if name not in ASKING},
    **{
        f"{part}.{name}": Composed(
            **{part: kind()}, steps=4, block_length=4, temper=TEMPER, eos_ids=(1,)
        )
        for part, table in PARTS.items()
        for name, kind in table.items()
        if name != "learned"
    },
    "discounted": Composed(steps=4, temper=TEMPER, eos_ids=(1, 2), discount=0.5),
}


def ready(strategy, kind):
    """The strategy with an end token where it takes one, or nothing if it does not go with it."""
    if isinstance(strategy, Composed):
        strategy = dataclasses.replace(strategy, eos_ids=(1,))
        return None if unready(strategy, kind) else strategy
    return strategy


CASES = [
    pytest.param(strategy, kind, id=f"{name}-{kind}", marks=[SLOW] if "." in name else [])
    for name, strategy in ABOUT.items()
    for kind in strategy.processes
    if ready(strategy, kind) is not None
]


class Speaker:
    """A network of which nothing but the shape of its answers is known."""

    def __init__(self, config):
        self.config = config

    def __call__(self, inputs, sigma, valid=None, earlier=None, view=None):
        at = inputs if view is None or view.read is None else view.read
        return at.new_empty(*at.shape, VOCAB, dtype=torch.bfloat16)

    def parameters(self):
        return iter(())

    def state_dict(self):
        return {}


def config_of(process):
    shape = dataclasses.replace(PRESETS["tiny"], depth=1, hidden=32, heads=2)
    return dataclasses.replace(shape, vocab_size=VOCAB, num_states=process.num_states)


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.parametrize(("strategy", "kind"), CASES)
def test_a_step_neither_fetches_nor_sends(strategy, kind):
    process = PROCESSES[kind](VOCAB)
    strategy = ready(strategy, kind)
    with pretended() as waits:
        blank = torch.zeros(ROWS, LENGTH, dtype=torch.int64, device="cuda")
        canvas = Canvas(blank, blank > 0, valid=blank == 0)
        key = Key(blank[:, 0])
        denoise = RowDenoiser(Speaker(config_of(process)), process, canvas.valid)
        waits.clear()
        for step in range(2):
            canvas, _ = strategy.step(process, denoise, canvas, key.at(step))
    assert not waits


def test_what_waits_is_seen():
    with pretended() as waits:
        x = torch.zeros(3, device="cuda")
        torch.tensor(3.0, device="cuda")
        x.cpu()
        with pytest.raises(Exception, match=r"data-dependent|_local_scalar_dense"):
            bool(x.any())
    assert waits == ["sent", "fetched", "_local_scalar_dense"]


@pytest.mark.gpu
@pytest.mark.parametrize(("strategy", "kind"), CASES)
def test_a_gpu_agrees(strategy, kind):
    """torch itself raises where a call would make the host wait."""
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    process = PROCESSES[kind](VOCAB)
    strategy = ready(strategy, kind)
    network = Transformer(config_of(process)).cuda()
    canvas = Canvas(*(torch.zeros(ROWS, LENGTH, dtype=d, device="cuda") for d in (int, bool)))
    key, denoise = Key(rng.rows(0, 0, ROWS).cuda()), RowDenoiser(network, process)
    for step in range(3):  # the first one compiles programs and fills tables
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            canvas, _ = strategy.step(process, denoise, canvas, key.at(step))
        finally:
            torch.cuda.set_sync_debug_mode("default")
