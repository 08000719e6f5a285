"""How is the engine reached over HTTP? As OpenAI's, and beyond it."""

from unison.serve import door

door.require()  # before what needs it is imported

from unison.serve.http.app import Guard, create_app  # noqa: E402

__all__ = ["Guard", "create_app"]
