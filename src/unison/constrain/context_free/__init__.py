"""Which texts follow rules that may nest? Grammars, lexers, and machines that find their states."""
