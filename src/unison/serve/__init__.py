"""How do others reach a model? One engine for many requests, an HTTP interface, a page to look."""
