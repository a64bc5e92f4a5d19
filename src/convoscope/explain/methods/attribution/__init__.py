"""Which part decides? Maps of what a network's answer to one image rests on, and the control that shows whether a map
means anything.

Every method runs the network in evaluation mode and leaves it as it was found, also when it fails: no hooks, the same
modes, gradients, buffers and random state. Images are float32 `(C, H, W)` or `(1, C, H, W)`, normalised as in training.
The target is a class; None is the most likely one. A network with one output for two classes has the score +output for
class 1 and -output for class 0. Gradients are taken of this raw score, not of the probability, which saturates.

The control is the same method on the same network with shuffled weights (Adebayo et al. 2018, "Sanity checks for
saliency maps", https://arxiv.org/abs/1810.03292): a map that stays the same shows edges of the image, not what the
network has learned.
"""
