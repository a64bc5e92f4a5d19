"""What every part of training rests on: recipe, randomness, engine, loss, optimiser, and files that are not trusted."""
