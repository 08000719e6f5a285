"""From what can a language be made? One file for each notation."""
