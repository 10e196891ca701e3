"""From videos and lists of captions to clips and the conditions of a generator."""
