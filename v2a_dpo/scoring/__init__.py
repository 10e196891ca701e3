"""The five scores of a candidate: one file per score, one small interface for all."""
