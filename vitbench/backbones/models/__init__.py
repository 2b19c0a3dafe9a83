"""The torch modules of the registered backbones; imported only when a backbone is built."""
