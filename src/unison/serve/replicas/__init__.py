"""How do several machines, or several devices, answer as one server?"""

from unison.serve.replicas.cluster import Share
from unison.serve.replicas.deployment import Plan
from unison.serve.replicas.launch import Place, application, deployed

__all__ = ["Place", "Plan", "Share", "application", "deployed"]
