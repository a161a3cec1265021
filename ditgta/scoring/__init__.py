"""The Inception network, feature statistics and the metrics that compare two sets of images."""
