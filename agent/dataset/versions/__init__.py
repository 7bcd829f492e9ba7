"""Versions of the training set: built, proved, compared. A version is a folder that is never changed.

    v0002-1f0c9a4e/
      data.yaml                 for Ultralytics: images/train, images/val, and test = images/eval
      images/{train,val,eval}/  hard links where the file system allows
      labels/{train,val,eval}/  five columns a line, never a confidence
      provenance.jsonl          one line per sample, from sensor to label
      looks.bin                 how each sample looks, in the order of provenance.jsonl, 384 bytes each
      card.json, card.md        where it comes from, in numbers

record  what is in those files
verified, declared   the two ways into a version: a person's label in the store, a person's word for a whole folder
groups  near-duplicates stay on one side
build, verify, diff  the commands
"""
