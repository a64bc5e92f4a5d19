"""Numbers in, texts and Pillow images out."""
