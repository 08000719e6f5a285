import itertools

import causal
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unison.engine.flow import Flow, Request, fused
from unison.engine.slots import Slots, compaction
from unison.speculation import Ask, Speculation, Text, speculate
from unison.speculation.policies.plain import Plain

WARM = Plain(0.8, top_k=5)


def requests(count: int) -> list[Request]:
    draw = torch.Generator().manual_seed(count)
    made = []
    for number in range(count):
        size = int(torch.randint(0, 9, (), generator=draw))
        prompt = torch.randint(0, 7, (size,), generator=draw).tolist()
        room = int(torch.randint(1, 14, (), generator=draw))
        policy = Plain(0.0) if number % 3 == 0 else WARM
        made.append(Request((0, *prompt), room, 100 + number, (5,), policy))
    return made


def alone(target, request: Request) -> list[int]:
    tokens = torch.tensor([request.inputs])
    seed = torch.tensor([request.seed])
    ask = Ask(Text(tokens, torch.tensor([tokens.shape[1]])), [request.room], seed, request.ends)
    return speculate(Speculation(policy=request.policy), target, ask).tokens[0]


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_every_request_says_what_it_says_alone(slots: int):
    target = causal.target(1)
    asked = requests(11)
    texts: list[list[int]] = [[] for _ in asked]
    ended = set()
    for said in fused(target, asked, slots):
        assert said.request not in ended
        texts[said.request].append(said.token)
        if said.done:
            ended.add(said.request)
    assert texts == [alone(target, request) for request in asked]
    assert len(ended) == 11


def test_requests_that_come_late_or_are_cancelled_change_no_other():
    target = causal.target(2)
    asked = requests(6)
    want = [alone(target, request) for request in asked]
    flow = Flow(target, slots=3, room=30)
    texts: dict[int, list[int]] = {number: [] for number in range(6)}
    for number in range(3):
        flow.submit(asked[number])
    for turn in itertools.count():
        if turn in (1, 2, 4):
            flow.submit(asked[{1: 3, 2: 4, 4: 5}[turn]])
        if turn == 2:
            flow.cancel(1)
        for said in flow.advance():
            texts[said.request].append(said.token)
        if turn > 4 and not flow.busy:
            break
    assert texts[1] == want[1][: len(texts[1])]
    assert [texts[number] for number in (0, 2, 3, 4, 5)] == [want[n] for n in (0, 2, 3, 4, 5)]


def test_a_request_longer_than_a_slot_is_refused_before_it_is_queued():
    flow = Flow(causal.target(1), slots=2, room=8)
    with pytest.raises(ValueError, match="needs 9 inputs and a slot holds 8"):
        flow.submit(Request((0, 1, 2), 7))
    assert not flow.busy
    with pytest.raises(ValueError, match="room for 0"):
        Request((0,), 0)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_compaction_makes_the_fewest_moves(case):
    size, held = case
    live = sorted(held)
    moves = compaction(live, size)
    after = sorted((held - {move.source for move in moves}) | {move.goal for move in moves})
    assert len(after) == len(live)
    assert after == list(range(after[0], after[0] + len(after))) if after else True
    windows = [set(range(s, s + len(live))) for s in range(size - len(live) + 1)]
    assert len(moves) == min(len(held - window) for window in windows)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4))
def test_slots_stay_side_by_side_and_keep_their_requests(turns, size):
    table, running, memory, name = Slots(size), [], {}, 0
    for turn in turns:
        if turn % 2 and len(running) < size:
            memory[table.join(name)] = name
            running.append(name)
            name += 1
        elif running:
            gone = running.pop(turn % len(running))
            memory = {slot: held for slot, held in memory.items() if held != gone}
            for source, goal in table.leave(gone):
                assert goal not in memory
                memory[goal] = memory.pop(source)
        first, past = table.window
        assert sorted(memory) == list(range(first, past))
        assert [memory[slot] for slot in sorted(memory)] == table.requests
