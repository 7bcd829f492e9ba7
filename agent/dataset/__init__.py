"""The labelling loop: candidates to labelling tools and back, and from human labels to versions of a training set.

records    what travels: tasks out, labels in; a prediction is no label
looks      the same frame seen twice
tasks, export       which candidates come next, and a batch of them in a tool's files
formats    what the tools read and write
labelling  what a tool's file said, checked, into the store
versions   the training set: built, proved, compared
stats, need, report what is in the store, for people and for the fleet
"""
