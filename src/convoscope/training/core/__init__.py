"""What every part of training rests on: recipe, chance, engine, loss, optimiser, and files that are read without trust."""
