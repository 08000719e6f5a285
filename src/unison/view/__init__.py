"""What does a run look like? Traces as one HTML file that needs nothing but itself."""

from unison.view.colours import colours
from unison.view.rendering import page

__all__ = ["colours", "page"]
