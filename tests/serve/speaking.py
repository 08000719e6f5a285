"""Models of bytes with room for a conversation, as tests of chat, infilling and scoring need."""

import contextlib
import dataclasses
from typing import NamedTuple

import tiny
from served import Client, listening, running

from unison.data import train_tokenizer
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer
from unison.process import PROCESSES
from unison.serve.http import create_app
from unison.serve.service import Hosted
from unison.serve.settings import Settings

LENGTH = 448
FAMILIES = ("mdlm", "duo", "ar")


def byte_model(family):
    """A model of random weights that reads any text and writes mostly what can be read."""
    tokenizer = train_tokenizer("byte", ["text"])
    process = PROCESSES[tiny.FAMILIES[family]](tokenizer.vocab_size)
    shape = tiny.shape(
        family,
        vocab_size=process.vocab_size,
        num_states=process.num_states,
        max_length=LENGTH,
    )
    network = Transformer(shape)
    tiny.randomise(network)
    strategy = "left_to_right" if family == "ar" else "ancestral"
    return LanguageModel(network.eval(), process, tokenizer, Defaults(strategy, 4, 48))


class Spoken(NamedTuple):
    """A server of such models.

    Attributes:
        models: By name.
        client: Asks it without a socket.
        url: Where it listens.
    """

    models: dict
    client: Client
    url: str


@contextlib.contextmanager
def speaking(templates=None, **settings):
    """A server of such models, stopped at the end.

    Args:
        templates: Folders of chat templates, by model.
        settings: Of the server.
    """
    sources = templates or {}
    models = {name: byte_model(name) for name in FAMILIES}
    hosted = {
        name: dataclasses.replace(Hosted(name, model), source=sources.get(name))
        for name, model in models.items()
    }
    with running(hosted, Settings(**settings)) as service:
        app = create_app(service)
        with listening(app) as url:
            yield Spoken(models, Client(app), url)
