import causal
import torch

from unison.drafters.acceptance_head import AcceptanceHead
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation import Ask, Speculation, Text, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.schedulers.specdec import SpecDec
from unison.speculation.verifiers.match import Match


def test_a_head_learns_whether_drafts_are_accepted():
    network = causal.target(3).network.requires_grad_(False)
    kind = AcceptanceHead(depth=2, blocks=1)
    head = kind.module(network)
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randint(1, 7, (16, 12), generator=draw)
    inputs[:, 0] = 0
    optim = torch.optim.Adam(head.parameters(), 0.02)
    losses = []
    for step in range(60):
        loss = kind.lesson(head, network, inputs, Key(rng.rows(step % 4, 0, 16))).loss
        mean = loss.total / loss.count
        optim.zero_grad()
        mean.backward()
        optim.step()
        losses.append(float(mean.detach()))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_a_judged_drafter_drafts_what_it_drafts_unjudged_and_is_stopped_by_its_head():
    target = causal.target(3)
    kind = AcceptanceHead(depth=2)
    head = kind.module(target.network)
    ask = Ask(Text(torch.tensor([[0, 3, 1]]), torch.tensor([3])), [12], torch.zeros(1).long())
    longest = {}
    for odds in (-9.0, 9.0):
        with torch.no_grad():
            head.out.bias.fill_(odds)
        heights = []
        how = Speculation(kind.drafter(head, target.network), Chain(), Match(), SpecDec(0.3, 1, 6))
        spoken = speculate(how, target, ask, lambda r, h=heights: h.append(r.outcome.tree.height))
        assert spoken.tokens == speculate(Speculation(), target, ask).tokens
        longest[odds] = max(heights)
    # the first draft is judged when the second is made, and the rule stops behind that
    assert longest == {-9.0: 2, 9.0: 6}
