// Two or three backbones side by side.
(() => {})();
