"""The built-in small world: procedural clips, small frozen scorers and a small generator of the MMAudio
architecture."""
