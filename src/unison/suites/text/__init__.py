"""Which questions are about words and letters? Extraction, recall, stories, edits."""
