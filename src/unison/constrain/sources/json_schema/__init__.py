"""Which texts are JSON that a schema accepts?"""

from unison.constrain.sources.json_schema.reading import json_schema

__all__ = ["json_schema"]
