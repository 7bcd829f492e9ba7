"""Does the tail survive retraining, and on whose labels? Four ways to label the same streets, round after round.

    plan      how much of everything
    streets   rendered once: what the cameras watch, and the held-out frames, each with its truth
    arms      which frames each way labels, and with what
    learn     one retraining in a process of its own, the only part that needs PyTorch
    judge     average precision of head and tail on the held-out frames
    rounds    the order of the work; every step leaves a file, and what is there is not done again
    report    tables and a picture of what came out

`self` takes its own served rows for truth and forgets the labels of the round before, as in the experiments of
Shumailov et al. (Nature 631, 2024); with accumulation the collapse is milder (Gerstgrasser et al., arXiv 2404.01413).
The others keep the base set and add truth to it. All retrain from the same start with the same number of images seen.
"""
