"""Training in steps: from images, a network and a recipe to weights, stoppable after every batch."""
