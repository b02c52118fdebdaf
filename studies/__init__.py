"""The three ways of studying a convolutional network; siblings never import each other."""
