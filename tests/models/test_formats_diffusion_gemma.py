"""DiffusionGemma behind our contract answers as transformers' own class does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_gemma
import torch
from safetensors.torch import load_file, save_file
from tiny_gemma import CANVAS, V, source_of
from torch import Tensor

from unison.denoising import RowDenoiser
from unison.models import View
from unison.models.formats import diffusion_gemma, reading
from unison.models.formats.blueprint import CheckpointError, Source
from unison.models.formats.diffusion_gemma import DiffusionGemmaNetwork
from unison.models.view import KeyValues
from unison.process import Uniform
from unison.types import Focus, SoftTokens

pytest.importorskip("transformers", minversion="5.23")

SIGMA = torch.zeros(1)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return tiny_gemma.made()


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gemma")
    theirs.save_pretrained(path)
    return path


@pytest.fixture
def network(folder: Path) -> DiffusionGemmaNetwork:
    network, _ = diffusion_gemma.build(source_of(folder), torch.float32)
    assert isinstance(network, DiffusionGemmaNetwork)
    return network


def text(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(3, V, shape, generator=torch.Generator().manual_seed(seed))


def a_belief(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, V, generator=torch.Generator().manual_seed(seed)) * 3


def at(*bounds: tuple[int, int], read: bool = True, known: bool = False) -> View:
    """Work on a block of each row; blocks are of one length."""
    positions = torch.tensor([list(range(first, past)) for first, past in bounds])
    return View(
        read=positions if read else None,
        block=torch.tensor(bounds),
        known=positions if known else None,
    )


def expected(
    theirs: Any, row: Tensor, block: tuple[int, int], said: Tensor | None = None
) -> Tensor:
    """Transformers' answer about a block, from the raw text before it."""
    first, past = block
    with torch.no_grad():
        return theirs(
            input_ids=row[None, :first],
            decoder_input_ids=row[None, first:past],
            self_conditioning_logits=None if said is None else said[None],
        ).logits[0]


@torch.no_grad()
def call(network: DiffusionGemmaNetwork, *args: Any) -> Tensor:
    return network(*args)


@pytest.mark.parametrize("block", [(3, 11), (11, 19), (9, 14)])
def test_a_block_after_a_prefix_is_answered_as_transformers_answers(network, theirs, block) -> None:
    row = text(1, 20)
    said = call(network, row, SIGMA, None, None, at(block))
    torch.testing.assert_close(said[0], expected(theirs, row[0], block), atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [(3, 11), (11, 19)])
def test_an_earlier_belief_comes_back_as_transformers_feeds_it(network, theirs, block) -> None:
    row, logits = text(1, 20), a_belief(CANVAS)
    earlier = logits.softmax(-1)[None]
    said = call(network, row, SIGMA, None, earlier, at(block, known=True))
    wanted = expected(theirs, row[0], block, logits)
    assert (wanted - expected(theirs, row[0], block)).abs().max() > 0.1
    torch.testing.assert_close(said[0], wanted, atol=1e-5, rtol=0)


def test_rows_at_different_blocks_with_and_without_a_belief_do_not_mix(network, theirs) -> None:
    rows, logits = text(3, 20), a_belief(CANVAS)
    blocks = [(3, 11), (11, 19), (12, 20)]
    earlier = torch.stack([torch.zeros_like(logits), logits.softmax(-1), torch.zeros_like(logits)])
    said = call(network, rows, SIGMA.expand(3), None, earlier, at(*blocks, known=True))
    beliefs = [None, logits, None]
    wanted = [expected(theirs, *of) for of in zip(rows, blocks, beliefs, strict=True)]
    torch.testing.assert_close(said, torch.stack(wanted), atol=1e-5, rtol=0)


def test_a_position_the_belief_leaves_out_holds_what_stands_there(network, theirs) -> None:
    row, logits = text(1, 20), a_belief(CANVAS)
    known = torch.tensor([[8, 4, 5, 7, 8, 8]])  # of 3..10; repeats, out of order
    earlier = logits.softmax(-1)[known[0] - 3][None]
    whole = logits.clone()
    for left_out in (3, 6, 9, 10):
        whole[left_out - 3] = -torch.inf
        whole[left_out - 3, row[0, left_out]] = 0
    said = call(network, row, SIGMA, None, earlier, at((3, 11))._replace(known=known))
    wanted = expected(theirs, row[0], (3, 11), whole)
    torch.testing.assert_close(said[0], wanted, atol=1e-5, rtol=0)


def test_positions_are_answered_in_the_order_read(network) -> None:
    row = text(1, 20)
    all_of_it = call(network, row, SIGMA, None, None, at((3, 11)))
    read = torch.tensor([[10, 4, 4]])
    some = call(network, row, SIGMA, None, None, at((3, 11))._replace(read=read))
    assert torch.equal(some, all_of_it[:, [7, 1, 1]])


def test_unread_the_answer_spans_the_row_and_says_nothing_outside_the_block(network) -> None:
    row = text(1, 20)
    whole = call(network, row, SIGMA, None, None, at((3, 11), read=False))
    block = call(network, row, SIGMA, None, None, at((3, 11)))
    assert whole.shape == (1, 20, V)
    assert torch.equal(whole[:, 3:11], block)
    assert not whole[:, :3].any()
    assert not whole[:, 11:].any()


def test_without_a_view_the_row_is_one_canvas_with_nothing_before(network, theirs) -> None:
    rows = text(2, CANVAS)
    valid = torch.tensor([[True] * CANVAS, [True] * 5 + [False] * 3])
    said = call(network, rows, SIGMA.expand(2), valid)
    for row, answer, length in zip(rows, said, (CANVAS, 5), strict=True):
        # One token before it that is hidden from the canvas, which starts at place 0.
        hidden = torch.tensor([[0] + [1] * length])
        wanted = theirs(
            input_ids=torch.tensor([[5]]),
            decoder_input_ids=row[None, :length],
            decoder_attention_mask=hidden,
            decoder_position_ids=torch.arange(length)[None],
        ).logits[0]
        torch.testing.assert_close(answer[:length], wanted, atol=1e-5, rtol=0)
        assert not answer[length:].any()


def test_a_block_that_runs_on_into_padding_ends_with_its_row(network, theirs) -> None:
    rows = text(2, 20)
    valid = torch.arange(20) < torch.tensor([[14], [20]])
    view = View(torch.tensor([[11, 13], [12, 18]]), block=torch.tensor([[11, 19], [11, 19]]))
    said = call(network, rows, SIGMA.expand(2), valid, None, view)
    wanted = [
        expected(theirs, rows[0], (11, 14))[[0, 2]],
        expected(theirs, rows[1], (11, 19))[[1, 7]],
    ]
    torch.testing.assert_close(said, torch.stack(wanted), atol=1e-5, rtol=0)


def test_what_stands_right_of_the_block_is_not_seen(network) -> None:
    row = text(1, 20)
    other = torch.cat([row[:, :11], text(1, 9, seed=5)], dim=1)
    view = at((3, 11))
    assert torch.equal(
        call(network, row, SIGMA, None, None, view), call(network, other, SIGMA, None, None, view)
    )


@pytest.fixture
def encodings(network: DiffusionGemmaNetwork) -> Iterator[list[int]]:
    """Lengths of the texts the encoder read."""
    lengths: list[int] = []

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        lengths.append(kwargs["input_ids"].shape[1])

    handle = network.model.model.encoder.register_forward_hook(note, with_kwargs=True)
    yield lengths
    handle.remove()


def test_a_prefix_is_encoded_once_however_the_rows_take_turns(network, theirs, encodings) -> None:
    rows = text(2, 20)
    for step in range(3):
        for row in (rows[:1], rows[1:]):
            row = torch.cat([row[:, :3], text(1, 17, seed=step)], dim=1)
            said = call(network, row, SIGMA, None, None, at((3, 11)))
            wanted = expected(theirs, row[0], (3, 11))
            torch.testing.assert_close(said[0], wanted, atol=1e-5, rtol=0)
    assert encodings == [3, 3]
    assert len(network.prefixes) == 2


def test_written_weights_make_a_kept_prefix_stale(network) -> None:
    row, block = text(1, 20), (3, 11)
    before = call(network, row, SIGMA, None, None, at(block))
    with torch.no_grad():
        network.model.model.decoder.layers[0].self_attn.k_proj.weight.mul_(-1)  # tied
    after = call(network, row, SIGMA, None, None, at(block))
    torch.testing.assert_close(after[0], expected(network.model, row[0], block), atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-2


def test_prefixes_beyond_the_room_are_forgotten_longest_unused_first(network, encodings) -> None:
    network.prefixes.room = 2
    row = text(1, 20)
    for first in (3, 4, 3, 5, 3, 4):
        call(network, row, SIGMA, None, None, at((first, first + 8)))
    assert encodings == [3, 4, 5, 4]


def test_gradients_reach_the_encoder_step_after_step(network) -> None:
    own = network.model.model.encoder.language_model.layers[0].layer_scalar  # a buffer: not tied
    own.requires_grad_(True)
    gradients = []
    for _ in range(2):
        loss = network(text(1, 20), SIGMA, None, None, at((3, 11))).square().sum()
        gradients += torch.autograd.grad(loss, own)
    assert gradients[0].item() != 0
    assert torch.equal(*gradients)


def test_the_denoiser_takes_minus_infinity_for_no_belief_and_asks_once(network, theirs) -> None:
    row, block = text(1, 20), (3, 11)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    focus = Focus(torch.arange(*block)[None], torch.tensor([block]))
    nothing = torch.full((1, CANVAS, V), -torch.inf)
    denoise = RowDenoiser(network, Uniform(V))
    said = denoise(row, torch.ones(1), focus, nothing)
    wanted = expected(theirs, row[0], block).log_softmax(-1)
    torch.testing.assert_close(said[0], wanted, atol=1e-5, rtol=0)
    assert len(calls) == 1
    again = denoise(row, torch.ones(1), focus, said)
    wanted = expected(theirs, row[0], block, said[0]).log_softmax(-1)
    torch.testing.assert_close(again[0], wanted, atol=1e-5, rtol=0)


def test_a_denoiser_without_a_belief_feeds_the_first_answer_to_the_second_call(
    network, theirs
) -> None:
    row, block = text(1, 20), (3, 11)
    focus = Focus(torch.tensor([[4, 9]]), torch.tensor([block]))
    said = RowDenoiser(network, Uniform(V))(row, torch.ones(1), focus)
    first = expected(theirs, row[0], block)
    wanted = expected(theirs, row[0], block, first).log_softmax(-1)[[1, 6]]
    torch.testing.assert_close(said[0], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (at((3, 12)), "at most 8 tokens at once, got a block of 9"),
        (None, "at most 8 tokens at once, got a block of 20"),
        (at((20, 24)), "inside its row of 20 tokens, got positions 20 to 20"),
        (at((3, 11))._replace(read=torch.tensor([[3, 11, 2]])), r"asked for \[2, 11\]"),
        (View(compute=torch.tensor([[3]])), "cannot take view.compute"),
        (View(memory=KeyValues((), ())), "cannot take view.memory"),
        (View(positions=torch.arange(20)[None]), "cannot take view.positions"),
        (View(mask=torch.ones(1, 20, 20, dtype=torch.bool)), "cannot take view.mask"),
    ],
)
def test_a_view_it_cannot_serve_is_refused(network, view, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        call(network, text(1, 20), SIGMA, None, None, view)


def test_mixtures_of_tokens_are_refused(network) -> None:
    with pytest.raises(ValueError, match="reads tokens, not mixtures"):
        call(network, SoftTokens(torch.ones(1, 4, V)), SIGMA)


def test_the_checkpoint_says_what_it_is(folder: Path) -> None:
    source = source_of(folder)
    _, plain = diffusion_gemma.build(source, torch.float32)
    assert (plain.process, plain.pieces, plain.mask_id) == ("uniform", (), None)
    assert (plain.eos_ids, plain.pad_id, plain.bos_id) == ((1,), 0, 2)
    assert plain.defaults == {
        "strategy": "diffusion-gemma",
        "steps": 48,
        "length": 64,
        "block_length": CANVAS,
        "settings": {
            "select.bound": 0.1,
            "temper.temperature": 0.8,
            "temper.final": 0.4,
            "stop.patience": 1,
            "stop.entropy": 0.005,
        },
    }
    config = plain.config
    assert (config.block_length, config.attention, config.max_length) == (8, "block_causal", 64)
    assert (config.self_conditioning, config.time, config.shifted) == (True, "none", False)
    stated = {
        "max_denoising_steps": 12,
        "max_new_tokens": 32,
        "sampler_config": {"entropy_bound": 0.3, "_cls_name": "EntropyBoundSamplerConfig"},
        "t_max": 1.0,
        "eos_token_id": [1, 5],
    }
    _, told = diffusion_gemma.build(replace(source, generation=stated), torch.float32)
    assert (told.defaults["steps"], told.defaults["length"]) == (12, 32)
    settings = told.defaults["settings"]
    assert (told.eos_ids, settings["select.bound"]) == ((1, 5), 0.3)
    assert (settings["temper.temperature"], settings["temper.final"]) == (1.0, 0.4)
    assert [fact.split()[0] for fact in told.inferred] == ["blocks", "pad_token_id", "bos_token_id"]


def test_saved_and_loaded_again_it_answers_the_same(network, folder: Path, tmp_path: Path) -> None:
    _, blueprint = diffusion_gemma.build(source_of(folder), torch.float32)
    diffusion_gemma.save(network, blueprint, tmp_path)
    again, told = diffusion_gemma.build(source_of(tmp_path), torch.float32)
    assert told == blueprint
    row, view, earlier = text(1, 20), at((9, 17), known=True), a_belief(1, CANVAS).softmax(-1)
    assert isinstance(again, DiffusionGemmaNetwork)
    assert torch.equal(
        call(again, row, SIGMA, None, earlier, view),
        call(network, row, SIGMA, None, earlier, view),
    )
    assert source_of(tmp_path).shapes == source_of(folder).shapes


def _edited(folder: Path, to: Path, drop: str = "", add: dict[str, Tensor] | None = None) -> Source:
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: w for name, w in tensors.items() if name != drop} | (add or {})
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    for name in ("config.json", "generation_config.json"):
        (to / name).write_text((folder / name).read_text())
    return source_of(to)


@pytest.mark.parametrize(
    "name",
    [
        "model.decoder.layers.1.layer_scalar",
        "model.encoder.language_model.layers.0.layer_scalar",
        "model.decoder.self_conditioning.up_proj.weight",
        "model.decoder.layers.0.self_attn.v_proj.weight",
    ],
)
def test_a_missing_tensor_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"lacks .*{name}"):
        diffusion_gemma.build(_edited(folder, tmp_path, drop=name), torch.float32)


def test_full_layers_have_no_values_of_their_own(folder: Path, tmp_path: Path) -> None:
    name = "model.decoder.layers.1.self_attn.v_proj.weight"
    assert name not in source_of(folder).shapes
    assert name.replace("1", "0") in source_of(folder).shapes
    edited = _edited(folder, tmp_path, add={name: torch.zeros(32, 16)})
    with pytest.raises(CheckpointError, match=f"does not know.*{name}"):
        diffusion_gemma.build(edited, torch.float32)


def test_a_tensor_of_another_shape_is_named(folder: Path, tmp_path: Path) -> None:
    name = "model.decoder.norm.weight"
    edited = _edited(folder, tmp_path, add={name: torch.zeros(15)})
    with pytest.raises(CheckpointError, match=f"another shape.*{name}"):
        diffusion_gemma.build(edited, torch.float32)


def test_settings_that_make_no_sense_here_are_refused(folder: Path) -> None:
    source = source_of(folder)
    both_ways = {**source.config["text_config"], "use_bidirectional_attention": "all"}
    edited = replace(source, config={**source.config, "text_config": both_ways})
    with pytest.raises(CheckpointError, match="only causal encoders"):
        diffusion_gemma.build(edited, torch.float32)
    with pytest.raises(CheckpointError, match="lacks text_config"):
        diffusion_gemma.build(replace(source, config={}), torch.float32)


def test_it_is_recognised_by_its_model_type(folder: Path) -> None:
    source = source_of(folder)
    assert diffusion_gemma.recognises(source)
    assert not diffusion_gemma.recognises(replace(source, config={"model_type": "gemma4"}))


def test_the_loader_finds_it_and_takes_the_stored_precision(folder: Path, tmp_path: Path) -> None:
    opened = reading.open_checkpoint(folder)
    assert opened.name == "diffusion_gemma"
    network, blueprint = reading.build(opened, None, torch.device("cpu"))
    assert isinstance(network, DiffusionGemmaNetwork)
    assert (blueprint.process, network.model.dtype) == ("uniform", torch.float32)
    half, _ = reading.build(opened, torch.bfloat16, torch.device("cpu"))
    assert isinstance(half, DiffusionGemmaNetwork)
    half.model.save_pretrained(tmp_path)
    again, _ = reading.build(reading.open_checkpoint(tmp_path), None, torch.device("cpu"))
    assert isinstance(again, DiffusionGemmaNetwork)
    assert again.model.dtype == torch.bfloat16
    row, view = text(1, 20), at((3, 11))
    rounded = call(again, row, SIGMA, None, a_belief(1, CANVAS).softmax(-1), view)
    assert torch.isfinite(rounded).all()
