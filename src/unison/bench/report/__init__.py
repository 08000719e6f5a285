"""How do people read a bench? Tables, figures, a page."""
