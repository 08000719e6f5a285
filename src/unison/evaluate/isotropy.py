"""Do a network's hidden states point everywhere? What contrastive search and similarity rest on."""

import statistics
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from unison.evaluate.windows import encoded
from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.process import Sequential
from unison.types import Estimate, Tokens


@torch.no_grad()
def isotropy(model: LanguageModel, texts: Sequence[str]) -> Estimate:
    r"""Return how far apart an autoregressive model's hidden states lie, on average over texts.

        1 - mean over i != j of cos(h_i, h_j)

    of what the output layer reads after each token of a text: 1 where directions are spread evenly,
    0 where all are the same (SimCTG: Su et al., 2022, arXiv:2202.06417; Su & Collier, 2022,
    arXiv:2210.14140). A text longer than the model reads counts as several.

    Args:
        model: Autoregressive, with a transformer of our own.
        texts: Of at least two tokens; shorter ones, and ends that are, do not count.

    Raises:
        ValueError: The model is another one, or no text has two tokens.
    """
    network, process = model.network, model.process
    if not isinstance(process, Sequential) or not isinstance(network, Transformer):
        raise ValueError(
            "isotropy reads the hidden states of an autoregressive transformer, and this model is "
            f"a {type(network).__name__} of the {type(process).__name__} process."
        )
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts, got one string; put it into a list.")
    size = model.max_length - 1
    ids = [encoded(model, "", text)[1] for text in texts]
    parts = [text[i : i + size] for text in ids for i in range(0, len(text), size)]
    found = []
    for part in parts:
        if len(part) > 1:
            tokens = torch.tensor([[process.bos_id, *part]], device=model.device)
            found.append(_spread(network, tokens))
    if not found:
        raise ValueError("no text has two tokens to compare; give longer texts.")
    error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return Estimate(statistics.fmean(found), error, len(found), "1 - cosine")


def _spread(network: Transformer, inputs: Tokens) -> float:
    """Return 1 minus the mean cosine of all pairs of positions, the begin token left out.

    The sum of all cosines is the square of the sum of the directions.
    """
    still = torch.zeros(1, device=inputs.device)
    ways = F.normalize(network.features(inputs, still)[0, 1:].double(), dim=-1)
    count = len(ways)
    alike = (float(ways.sum(0).square().sum()) - count) / (count * (count - 1))
    return 1 - alike
