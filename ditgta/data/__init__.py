"""Image folders, latent shards and the order in which training reads them."""
