"""How much does an engine take on?"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What an engine takes on.

    Attributes:
        rows: Texts written at once.
        waiting: Pieces of work that may wait; more are refused.
        memory: Bytes for running work, weights aside; ``None`` for no limit.
        preempt: Whether work of a higher priority may interrupt.
        prefixes: Bytes of keys and values of prompts remembered for later requests; 0 for none.
    """

    rows: int = 64
    waiting: int = 256
    memory: int | None = None
    preempt: bool = True
    prefixes: int = 256 << 20

    def __post_init__(self) -> None:
        for name in ("rows", "waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.prefixes < 0:
            raise ValueError(f"prefixes must be at least 0 bytes, got {self.prefixes}.")
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory must be at least 1 byte, got {self.memory}.")
