"""The five scores of a candidate, one file a score, all behind one small interface."""
