"""What makes models of continuous data fast: networks that rest, that share, that round."""
