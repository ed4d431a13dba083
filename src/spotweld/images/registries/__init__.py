"""Where images are kept: folders and servers behind one seam, and moving images between them."""
