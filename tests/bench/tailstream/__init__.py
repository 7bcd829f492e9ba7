"""TailStream: which policy catches the most distinct errors of a model for a labelling budget.

material   stills, crops and views, in two disjoint halves: one to tune on, one to report on
roving     slow pans over labelled stills, day-dusk-night-day
fixed      one real view, labelled objects pass or park
demo       the demo world with its exact truth
shot       a rendered frame with its truth; a stream is a sequence of them
cache      the model's rows for a stream, computed once and kept on disk
errors     which instances the model gets wrong in which frame
rivals     what other systems do, on the same rows
scoring    UER, UTM and the rest
"""
