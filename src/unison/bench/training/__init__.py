"""How fast does a model learn? Real training steps beside the machine's own limits."""
