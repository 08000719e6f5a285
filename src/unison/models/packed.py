"""How do evaluations that know nothing of each other pass through one transformer as one?

What treats every position by itself (embedding, norms, projections, MLPs, output layer) runs once
on the positions of all calls, side by side without padding (as in Orca, Yu et al., 2022, "selective
batching"); attention runs on each call's own shapes.

Law: every answer is the one the network gives to that call alone, to the last bit where the
kernels of this machine give a row of a matrix product the same bits among few rows and among many
(``invariant`` tells); ``layers.steady`` keeps single evaluations to such shapes. Except: a single
position of a network wider than 256, which alone takes the faster kernel for one vector; there
equality is to rounding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from unison.models import layers, sight
from unison.models.layers import Angles, Attention, Block, Hidden, Map
from unison.models.network import Call, Network
from unison.models.transformer import Transformer
from unison.models.view import KeyValues, View, remember

# Length and positions computed, 0 for all, of what ``invariant`` tries.
_SIZES = ((7, 0), (13, 0), (32, 0), (32, 0), (64, 0), (33, 2), (40, 5), (40, 8), (40, 8), (64, 17))
_FILL = 16  # positions and rows are filled up to a multiple of this


class _Group(NamedTuple):
    """Calls of the same shapes.

    Attributes:
        numbers: Which calls.
        rows: Of each.
        length: Inputs of each row.
        width: Positions computed of each row.
        inputs: Of all calls, as all the following.
        compute: Which positions are computed.
        read: Positions that answer.
        place: Of each input; ``None`` for 0, 1, 2 ...
        mask: Who sees whom.
        memories: One per call; none where they have none.
        whole: Whether all positions are computed.
    """

    numbers: list[int]
    rows: int
    length: int
    width: int
    inputs: Tensor
    compute: Tensor
    read: Tensor
    place: Tensor | None
    mask: Tensor | None
    memories: list[KeyValues]
    whole: bool


def packed(network: Network, calls: Sequence[Call]) -> list[Tensor]:
    """Return what a network answers to each call; memories are written as each alone would.

    No two calls may share rows of a memory. Calls with soft inputs or earlier beliefs, networks
    that are not a ``Transformer`` of plain blocks in float32, and anything on another device than
    the CPU are evaluated one by one.
    """
    fits = [i for i, call in enumerate(calls) if _fits(call)]
    if len(fits) < 2 or not isinstance(network, Transformer) or not _packs(network):
        return [network(*call) for call in calls]
    answers = {i: network(*call) for i, call in enumerate(calls) if not _fits(call)}
    with torch.no_grad():
        answers |= _together(network, {i: calls[i] for i in fits})
    return [answers[i] for i in range(len(calls))]


def invariant(network: Network) -> bool:
    """Return whether this machine answers packed calls as single ones, to the last bit.

    Tries calls of several sizes, with and without a memory; a network that is never packed passes.
    """
    if not isinstance(network, Transformer) or not _packs(network):
        return True
    sizes = [size for size in _SIZES if size[0] <= network.config.max_length]
    alone, together = ([_trial(network, *size) for size in sizes] for _ in range(2))
    with torch.no_grad():
        want = [network(*call) for call in alone]
    return all(map(torch.equal, want, packed(network, together)))


def _trial(network: Network, length: int, some: int) -> Call:
    """Return a call that computes and reads some positions beside an empty memory, or all."""
    inputs = (torch.arange(length)[None] * 7919 + length) % network.config.vocab_size
    sigma = torch.tensor([0.1 * length])
    if not some or not isinstance(network, Transformer):
        return Call(inputs, sigma)
    compute = torch.arange(length - some, length)[None]
    memory = remember(network.config, 1, length, next(network.parameters()))
    return Call(inputs, sigma, view=View(compute, compute, memory))


def _packs(network: Transformer) -> bool:
    """Return whether every part of the network treats positions alone, attention aside."""
    like = next(network.parameters())  # not the embedding: a packed one is made dense at the asking
    return (
        type(network) is Transformer
        and like.dtype is torch.float32
        and like.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and network.config.mixture is None
        and not (network.training and network.config.dropout)
        and all(type(b) is Block and type(b.attention) is Attention for b in network.blocks)
    )


def _fits(call: Call) -> bool:
    view = call.view
    return (
        isinstance(call.inputs, Tensor)
        and call.earlier is None
        and (view is None or view.compute is None or view.memory is not None)
    )


def _together(network: Transformer, calls: dict[int, Call]) -> dict[int, Tensor]:
    groups = _grouped(network, calls)
    tokens, place = _gathered(groups)
    cond, rows = _conditions(network, [calls[i] for group in groups for i in group.numbers], groups)
    h = network.embed(tokens)[None]
    angles = None
    if network.places is None:
        angles = layers.angles(place, network.config)
    else:
        h = h + network.places(place)
    for layer, block in enumerate(network.blocks):
        parts = _parts(block.modulation, cond, rows, 6)
        h = layers.around(block, h, parts, _attention(block, layer, groups, angles))
    where = _answering(groups, network.config.shifted)
    h = network.norm(h[:, where])
    parts = _parts(network.modulation, cond, None if rows is None else rows[where], 2)
    h = h if parts is None else layers.modulate(h, *parts)
    return _split(network.logits(h)[0], groups)


def _grouped(network: Transformer, calls: dict[int, Call]) -> list[_Group]:
    """Return calls of the same shapes side by side."""
    alike: dict[tuple, list[int]] = {}
    for number, call in calls.items():
        view = call.view or View()
        shape = (*cast(Tensor, call.inputs).shape, call.valid is None)
        shape += tuple(None if part is None else part.shape for part in view[:2])
        shape += (view.memory is None, view.positions is None, view.mask is None)
        alike.setdefault(shape, []).append(number)
    return [_group(network, numbers, [calls[i] for i in numbers]) for numbers in alike.values()]


def _group(network: Transformer, numbers: list[int], calls: Sequence[Call]) -> _Group:
    views = [call.view or View() for call in calls]
    first, config = calls[0], network.config
    rows, length = cast(Tensor, first.inputs).shape
    inputs = _stacked([call.inputs for call in calls])
    valid = _stacked([call.valid for call in calls])
    view = View(
        _stacked([view.read for view in views]),
        _stacked([view.compute for view in views]),
        positions=_stacked([view.positions for view in views]),
        mask=_stacked([view.mask for view in views]),
    )
    every = torch.arange(length)
    place = every if view.positions is None else view.positions
    if network.places is not None:
        network.placed(place)  # refuses too long a canvas
    mask = sight.mask(config, place, valid, view)
    compute = every.expand(len(inputs), -1) if view.compute is None else view.compute
    return _Group(
        numbers,
        rows,
        length,
        compute.shape[1],
        inputs,
        compute,
        compute if view.read is None else view.read,
        view.positions,
        mask,
        [view.memory for view in views if view.memory is not None],
        view.compute is None,
    )


def _stacked(parts: list[Any]) -> Any:
    """Return the rows of several calls as one; ``None`` where they have none."""
    if parts[0] is None:
        return None
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _gathered(groups: Sequence[_Group]) -> tuple[Tensor, Tensor]:
    """Return token and place of every position that is computed, filled up with the first."""
    tokens, places = [], []
    for group in groups:
        tokens.append(group.inputs.gather(1, group.compute).flatten())
        place = group.compute
        if group.place is not None:
            place = group.place.gather(1, group.compute)
        places.append(place.flatten())
    return _filled(torch.cat(tokens)), _filled(torch.cat(places))


def _filled(values: Tensor) -> Tensor:
    return F.pad(values, (0, -len(values) % _FILL))


def _conditions(
    network: Transformer, calls: Sequence[Call], groups: Sequence[_Group]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the embedding of every noise level, and which one each position has."""
    if network.time is None:
        return None, None
    sigma = network.level(torch.cat([call.sigma for call in calls]))
    if len(set(sigma.tolist())) == 1:
        return network.time(sigma[:1]), None
    widths = [group.width for group in groups for _ in range(len(group.inputs))]
    rows = torch.repeat_interleave(torch.arange(len(sigma)), torch.tensor(widths))
    return network.time(_filled(sigma)), _filled(rows)


def _parts(
    modulation: Any, cond: Tensor | None, rows: Tensor | None, count: int
) -> tuple[Tensor, ...] | None:
    """Return what modulates each position, or all of them."""
    if modulation is None or cond is None:
        return None
    told = layers.steady(modulation, cond)
    told = told if rows is None else told[rows]
    return told[None].chunk(count, -1) if rows is not None else told[:, None].chunk(count, -1)


def _attention(block: Any, layer: int, groups: Sequence[_Group], angles: Angles | None) -> Map:
    attention = block.attention

    def mixed(x: Hidden) -> Hidden:
        heads = attention.projected(x, angles)
        found, first = [], 0
        for group in groups:
            past = first + len(group.inputs) * group.width
            part = [one[0, :, first:past].unflatten(1, (-1, group.width)) for one in heads]
            queries, keys, values = (one.transpose(0, 1) for one in part)
            found += _found(attention, layer, group, (queries, keys, values))
            first = past
        found.append(x.new_zeros(1, x.shape[1] - first, found[0].shape[-1]))
        return attention.out(torch.cat([one.flatten(0, 1)[None] for one in found], 1))

    return mixed


def _found(
    attention: Attention, layer: int, group: _Group, heads: tuple[Tensor, Tensor, Tensor]
) -> list[Tensor]:
    """Return what the positions of a group find, call by call or together."""
    queries, keys, values = heads
    if group.memories:
        keys, values = _remembered(layer, group, keys, values)
    elif len(group.numbers) > 1 and not _batches():
        keys, values = keys.split(group.rows), values.split(group.rows)
    if isinstance(keys, Tensor):
        return [attention.attended(queries, keys, values, group.mask)]  # pyright: ignore
    masks = [group.mask] * len(keys)
    if group.mask is not None and len(group.mask) > 1:
        masks = group.mask.split(group.rows)
    return [
        attention.attended(*one)
        for one in zip(queries.split(group.rows), keys, values, masks, strict=True)
    ]


def _batches() -> bool:
    """Return whether attention gives a row the same bits in any batch.

    With several threads what a thread computes depends on where in the batch it begins.
    """
    return torch.get_num_threads() == 1


def _remembered(
    layer: int, group: _Group, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor] | tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Write fresh keys and values into the memories; return all of them, as one if they may be."""
    rooms = [[memory[part][layer] for memory in group.memories] for part in (0, 1)]
    compute = None if group.whole else group.compute
    together = _batches()
    whole = [_neighbours(room) if together else None for room in rooms]
    if whole[0] is not None and whole[1] is not None:
        old, past = (room[:, :, : group.length] for room in whole if room is not None)
        return layers.recalled(layers.LayerMemory(old, past, compute), keys, values)
    found = []
    for i, memory in enumerate(group.memories):
        rows = slice(i * group.rows, (i + 1) * group.rows)
        old, past = (memory[part][layer][:, :, : group.length] for part in (0, 1))
        one = layers.LayerMemory(old, past, None if compute is None else compute[rows])
        found.append(layers.recalled(one, keys[rows], values[rows]))
    fresh = zip(*found, strict=True)
    return tuple(torch.cat(part) if together else part for part in fresh)  # pyright: ignore


def _neighbours(rooms: Sequence[Tensor]) -> Tensor | None:
    """Return rows that lie in one tensor at equal distances as a view of it; else nothing."""
    first = rooms[0]
    if len(rooms) == 1:
        return first
    offset = first.storage_offset()
    step, memory = rooms[1].storage_offset() - offset, first.untyped_storage().data_ptr()
    for i, room in enumerate(rooms):
        if room.storage_offset() != offset + i * step or len(room) > 1:
            return None
        if room.untyped_storage().data_ptr() != memory or room.stride() != first.stride():
            return None
    if step < first[0].numel():
        return None  # the same row twice, or rows that overlap
    return first.as_strided((len(rooms), *first.shape[1:]), (step, *first.stride()[1:]))


def _answering(groups: Sequence[_Group], shifted: bool) -> Tensor:
    """Return where in the stream each answer comes from, filled up with the first."""
    where, first = [], 0
    for group in groups:
        rows = len(group.inputs)
        number = torch.arange(first, first + rows * group.width).view(rows, -1)
        source = (group.read - 1).clamp(min=0) if shifted else group.read
        if not group.whole:
            table = number[:, :1].repeat(1, group.length)
            number = table.scatter_(1, group.compute, number)
        where.append(number.gather(1, source).flatten())
        first += rows * group.width
    return _filled(torch.cat(where))


def _split(logits: Tensor, groups: Sequence[_Group]) -> dict[int, Tensor]:
    """Return every call's answer by its number."""
    answers, first = {}, 0
    for group in groups:
        count = group.rows * group.read.shape[1]
        for number in group.numbers:
            answers[number] = logits[first : first + count].unflatten(0, (group.rows, -1))
            first += count
    return answers
