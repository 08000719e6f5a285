"""Which losses are one program on a GPU? Those in these files, written in Triton."""
