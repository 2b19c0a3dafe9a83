"""The torch modules behind the registered backbones; imported only when one is built."""
