"""A small CLIP of our own, pre-trained on drawn products, and the code that draws them."""
