"""How do people call it? One thin file per verb."""
