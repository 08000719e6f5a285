"""On which models is work done? One of each process at a size, or a trained one."""

import dataclasses

import torch
from torch import nn

from unison.bench.roofline.clock import Inside
from unison.bench.roofline.settings import Roofline
from unison.bench.training import machine
from unison.bench.training.steps import shape_of
from unison.data import byte_tokenizer
from unison.generation import process_name
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.train import Train
from unison.train.config import fitted, objective_of
from unison.train.setup import build

OBJECTIVE = {"absorbing": "mdlm", "uniform": "duo", "sequential": "ar"}
_SMALL = 0.02  # of weights that begin at zero: a network past its first step


class Stage:
    """The models of one size, made when they are asked for and then kept.

    Args:
        settings: What is measured.
        size: Name of the shape; of a trained model, its own name.
        device: Where.
        model: A trained model in place of random weights; then there is no other.

    Attributes:
        settings: As given.
        size: As given.
        device: As given.
        inside: Counts the time inside the models' networks.
    """

    def __init__(
        self,
        settings: Roofline,
        size: str,
        device: torch.device,
        model: LanguageModel | None = None,
    ) -> None:
        self.settings, self.size, self.device = settings, size, device
        self.inside = Inside(device)
        self._made: dict[str, LanguageModel] = {}
        self._only = model
        if model is not None:
            self._keep(process_name(model.process), model)

    @property
    def dtype(self) -> str:
        """Of the weights that are read: those of a trained model stay as they are."""
        if self._only is None:
            return self.settings.dtype
        weights = next(self._only.network.parameters())
        return str(weights.dtype).removeprefix("torch.")

    @property
    def main(self) -> LanguageModel:
        """The model that a plain evaluation is measured with."""
        return self.model("uniform") if self._only is None else self._only

    @property
    def config(self) -> TransformerConfig:
        """Shape of the main model."""
        return self.main.network.config

    @property
    def length(self) -> int:
        """Tokens of a row and of a canvas."""
        return min(self.settings.length, self.main.max_length)

    def model(self, process: str) -> LanguageModel:
        """Return the model of a process.

        Raises:
            ValueError: A trained model was given, and it is of another.
        """
        if process not in self._made:
            if self._only is not None:
                raise ValueError(
                    f"it needs a model of the {process} process and this one is of the "
                    f"{process_name(self._only.process)} process."
                )
            self._keep(process, self._random(process))
        return self._made[process]

    def trained(self, process: str) -> Train:
        """Return a run that trains a model of a process at this size."""
        objective = objective_of(OBJECTIVE[process])
        if self._only is None:
            shape = dataclasses.replace(shape_of(self.size), max_length=self.settings.length)
            shape = dataclasses.replace(fitted(shape, objective), dropout=0.0)
        else:
            shape = self._only.network.config
        precision = "bfloat16" if self.settings.dtype == "bfloat16" else "float32"
        return Train(
            model=shape,
            objective=objective,
            batch_size=self.settings.batch_size,
            precision=precision,
            seed=self.settings.seed,
        )

    def fresh(self, process: str) -> Transformer:
        """Return a network of a process that may be changed: a copy of the model's, in float32.

        Raises:
            ValueError: It is none of ours.
        """
        network = self.model(process).network
        if not isinstance(network, Transformer):
            raise ValueError(f"it needs a network of unison's own, got {type(network).__name__}.")
        copy = Transformer(network.config).to(self.device, torch.float32)
        copy.load_state_dict(network.state_dict())
        return copy

    def _keep(self, process: str, model: LanguageModel) -> None:
        self._made[process] = model
        if isinstance(model.network, nn.Module):
            self.inside.watch(model.network)

    def _random(self, process: str) -> LanguageModel:
        settings, tokenizer = self.settings, byte_tokenizer()
        config = self.trained(process)
        undone, network = build(config, settings.vocab_size, tokenizer.eos_id, self.device)
        with torch.no_grad():
            for weight in network.parameters():
                if not weight.any():
                    weight.copy_(_SMALL * machine.noise(weight.shape, self.device))
        network = network.to(getattr(torch, settings.dtype)).eval().requires_grad_(False)
        return LanguageModel(network, undone, tokenizer, Defaults(length=settings.length))
