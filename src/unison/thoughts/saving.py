"""Where do thoughts live? A folder that knows which model has them."""

import dataclasses
from pathlib import Path

from unison.drafters import beside
from unison.drafters.beside import Beside, BesideError
from unison.drafters.saving import fingerprint
from unison.engine.reading import target_of
from unison.language_model import LanguageModel
from unison.thoughts.mind import Mind, Thinking

FORMAT = "unison-thoughts"
FOLDER = "thoughts"  # within that of a model trained to think


def save_mind(folder: Path, mind: Mind, model: LanguageModel) -> None:
    """Write the weights that let a model think.

    Raises:
        OSError: The disk is full or not writable; no file is half written.
    """
    settings = dataclasses.asdict(mind.thinking)
    beside.save(folder, Beside(FORMAT, settings, {"model": fingerprint(model)}), mind)


def load_mind(path: str | Path, model: LanguageModel) -> Mind:
    """Return the weights that let a model think.

    Args:
        path: Their folder, or that of the model trained with them.
        model: The model.

    Raises:
        BesideError: The folder is missing or damaged, or the thoughts are another model's.
        ValueError: The model is not a causal network of unison's own.
    """
    folder = Path(path)
    folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    values = beside.settings(folder, FORMAT, {"model": model})
    try:
        thinking = Thinking(**values)
    except TypeError as error:
        raise BesideError(f"{folder} has settings that do not fit: {error}") from None
    network = target_of(model).network
    return beside.filled(folder, Mind(thinking, network), next(network.parameters()))
