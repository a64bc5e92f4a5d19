"""Ways to ask a network: attribution, activation, embeddings, transforms; and convolution by hand."""
