"""Which known name did someone mean?"""

from unison.suggest import nearest

__all__ = ["nearest"]
