"""What does writing look like to somebody who has only a browser? A page to try models on."""

from unison.serve.playground.pages import router

__all__ = ["router"]
