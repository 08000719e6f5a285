"""Which colours has a page that shows text being written? Those of the figures, as CSS variables.

Every page that shows canvases of tokens begins with them; ``style.css`` derives all others.
"""

from unison.evaluate.theme import DARK, LIGHT, Theme


def colours() -> str:
    """Return rules that set the theme's colours, for light and dark paper.

    ``--paper``, ``--ink``, ``--muted``, ``--faint``, ``--glow`` and ``--accent`` as in every page
    of ours; ``--hue-1`` to ``--hue-6`` the palette.
    """
    dark = f"@media(prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return f":root{{{_variables(LIGHT)}}}{dark}"


def _variables(theme: Theme) -> str:
    named = {
        "paper": theme.paper,
        "ink": theme.ink,
        "muted": theme.muted,
        "faint": theme.faint,
        "glow": theme.glow,
        "accent": theme.palette[0],
        **{f"hue-{i}": colour for i, colour in enumerate(theme.palette, 1)},
    }
    return ";".join(f"--{name}:{value}" for name, value in named.items())
