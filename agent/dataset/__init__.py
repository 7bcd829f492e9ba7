"""The labelling loop: candidates to labelling tools and back, and from human labels to versions of a training set."""
