"""Small generators of 32×32 images, each trained by `training.fit`. `tools.make_generators` lists and runs them."""
