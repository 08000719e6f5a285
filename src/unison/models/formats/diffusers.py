"""How is a model of Hugging Face's diffusers run? It keeps its class; it is asked as a network.

The one door to that library: everything else sees settings and an ``EventNetwork``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.suggest import nearest
from unison.types import Event, Level

_PARTS = ("unet", "transformer")
_MODELS = ("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel")
_TABLE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


class DiffusersError(ValueError):
    """A checkpoint of diffusers that cannot be read."""


class Opened(NamedTuple):
    """A checkpoint as that library reads it.

    Attributes:
        model: The denoising model.
        scheduler: The configuration of the scheduler beside it, or the one that was given.
    """

    model: Any
    scheduler: Mapping[str, Any]


@dataclass(frozen=True)
class DiffusersNetwork:
    """A model of that library as an ``EventNetwork``: x_t and time in, its bare answer out.

    Attributes:
        model: A UNet2DModel, UNet2DConditionModel or DiTTransformer2DModel. What lies beside is
            the hidden states of a text encoder, [batch, tokens, width], for the second.
        steps: The time step it is told at t=1.
    """

    model: Any
    steps: float

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        """Return the answer; variances that some models answer as well are left out.

        Raises:
            DiffusersError: A condition is missing or has no place in this model.
        """
        told = (noise.double() * self.steps).float()
        name = type(self.model).__name__
        if (beside is not None) != (name == "UNet2DConditionModel"):
            raise DiffusersError(
                f"a {name} takes {'no ' if beside is not None else ''}hidden states of a text "
                "encoder beside the events; bind what it takes to the denoiser."
            )
        label = None if label is None else self._labels(label)
        if name == "UNet2DConditionModel":
            answer = self.model(x, told, beside, class_labels=label).sample
        else:
            answer = self.model(x, told, class_labels=label).sample
        return answer[:, : x.shape[1]]

    def _labels(self, label: Tensor) -> Tensor:
        """Return labels as the model has them: its own class for none said, if it knows one."""
        config = self.model.config
        if type(self.model).__name__ == "DiTTransformer2DModel":
            return torch.where(label < 0, config.num_embeds_ada_norm, label)
        if label.min() < 0:
            raise DiffusersError(
                "this model has no class for 'none said'; give every row a class of its own."
            )
        return label


def open_model(place: str, scheduler: Mapping[str, Any] | None) -> Opened:
    """Read a pipeline's denoising model, or a bare model.

    Args:
        place: A folder, or ORG/NAME on the hub.
        scheduler: The configuration of a scheduler; ``None`` for the one in the folder.

    Raises:
        DiffusersError: diffusers is not installed, files are missing or damaged, or the model is
            of a kind not known here.
    """
    library = _library()
    part = _part(library, place)
    try:
        config = library.UNet2DModel.load_config(place, subfolder=part)
    except (OSError, ValueError) as error:
        raise DiffusersError(f"{place} cannot be read as a model: {_line(error)}") from None
    name = config.get("_class_name")
    if name not in _MODELS:
        raise DiffusersError(
            f"{place} holds a {name}{nearest(str(name), _MODELS)}; known: {', '.join(_MODELS)}."
        )
    stated = scheduler or _scheduler(library, place, part)
    try:
        model = getattr(library, name).from_pretrained(place, subfolder=part)
    except (OSError, ValueError, RuntimeError) as error:
        raise DiffusersError(f"{place} cannot be read as {name}: {_line(error)}") from None
    return Opened(model.eval(), stated)


def signals(config: Mapping[str, Any]) -> list[float]:
    """Return the squared signal at every time step: that library's own products of alphas.

    Raises:
        DiffusersError: The configuration makes no table.
    """
    stated = {name: config[name] for name in _TABLE if name in config}
    try:
        return _library().DDPMScheduler(**stated).alphas_cumprod.double().tolist()
    except (NotImplementedError, TypeError, ValueError) as error:
        raise DiffusersError(f"the table of betas cannot be made: {_line(error)}") from None


def _part(library: Any, place: str) -> str | None:
    """Return the folder of a pipeline's denoising model; ``None`` for a bare model."""
    try:
        parts = library.DiffusionPipeline.load_config(place)
    except OSError:
        return None
    for part in _PARTS:
        if part in parts:
            return part
    raise DiffusersError(
        f"{place} is a {parts.get('_class_name')} without {' or '.join(_PARTS)}; give the folder "
        "of its model."
    )


def _scheduler(library: Any, place: str, part: str | None) -> Mapping[str, Any]:
    try:
        return library.DDPMScheduler.load_config(place, subfolder="scheduler" if part else None)
    except (OSError, ValueError) as error:
        raise DiffusersError(
            f"{place} has no scheduler's configuration ({_line(error)}); give one with "
            "scheduler=, such as DDPMScheduler().config."
        ) from None


def _library() -> Any:
    try:
        import diffusers
    except ImportError:
        raise DiffusersError(
            "diffusers is not installed; pip install 'unison[continuous]'."
        ) from None
    return diffusers


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
